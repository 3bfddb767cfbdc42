// Small helps for the page around the picture: its sentences, its requests.

/** A sentence of the page, from its <template data-texts>; ``{name}`` is filled in. */
export function say(root, name, values = {}) {
  const text = root.querySelector("template[data-texts]").content.querySelector(`[data-text="${name}"]`).textContent;
  return text.trim().replaceAll(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
}

/** The session has ended: the portal answered with its log-in page. */
export class LoggedOutError extends Error {}

/** What the portal refuses, with its own sentence. */
export class RefusedError extends Error {
  constructor(message, { status, latest }) {
    super(message);
    this.status = status;
    this.latest = latest;
  }
}

/** Ask for JSON, or send a form and read the JSON that comes back. */
export async function askJson(address, { form } = {}) {
  const response = await fetch(address, {
    method: form ? "POST" : "GET",
    body: form,
    headers: { Accept: "application/json", ...(form ? { "X-CSRFToken": token(form) } : {}) },
    credentials: "same-origin",
  });
  if (response.redirected || !response.headers.get("Content-Type")?.includes("json")) {
    if (response.redirected && new URL(response.url).pathname === document.body.dataset.loginPath) {
      throw new LoggedOutError();
    }
    throw new RefusedError("", { status: response.status });
  }
  const answer = await response.json();
  if (!response.ok) {
    throw new RefusedError(answer.error ?? "", { status: response.status, latest: answer.latest });
  }
  return answer;
}

// A log-in in another tab changes the token that guards against forgery.
function token(form) {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? form.get("csrfmiddlewaretoken");
}

/** Whether a form on this part of the page holds something that was typed and not sent. */
export function hasUnsent(part) {
  return [...part.querySelectorAll("input, textarea, select")].some((field) => {
    if (field.type === "hidden") {
      return false;
    }
    if (field.type === "checkbox" || field.type === "radio") {
      return field.checked !== field.defaultChecked;
    }
    if (field instanceof HTMLSelectElement) {
      const standard = [...field.options].findIndex((option) => option.defaultSelected);
      return field.selectedIndex !== Math.max(0, standard);
    }
    return field.value !== field.defaultValue;
  });
}
