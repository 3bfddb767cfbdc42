// Small helps on top of pages that work without them.
"use strict";

// A part of a page that asks for news after the session has ended gets the log-in page as its answer. Show that page
// as a page, with the way back, instead of a form squeezed into the corner that asked.
document.addEventListener("htmx:beforeSwap", (event) => {
  const answeredBy = event.detail.xhr.responseURL;
  const loginPath = document.body.dataset.loginPath;
  if (answeredBy && loginPath && new URL(answeredBy).pathname === loginPath) {
    event.detail.shouldSwap = false;
    window.location.assign(`${loginPath}?next=${encodeURIComponent(window.location.pathname)}`);
  }
});

// A log-in in another tab changes the token that guards forms against forgery; a form that was open sends the new one.
const freshToken = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
document.addEventListener("submit", (event) => {
  const field = event.target.querySelector("input[name=csrfmiddlewaretoken]");
  if (field && event.target.action.startsWith(`${window.location.origin}/`)) {
    field.value = freshToken() || field.value;
  }
});
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.parameters.csrfmiddlewaretoken) {
    event.detail.parameters.csrfmiddlewaretoken = freshToken() || event.detail.parameters.csrfmiddlewaretoken;
  }
});
// Who logs out leaves nothing typed behind for the next person at this computer (editor.js keeps unsaved texts).
document.addEventListener("submit", (event) => {
  if (new URL(event.target.action).pathname === document.body.dataset.logoutPath) {
    const mine = `ira-draft:${document.body.dataset.user}:`;
    Object.keys(localStorage)
      .filter((key) => key.startsWith(mine))
      .forEach((key) => localStorage.removeItem(key));
  }
});

// Ctrl and Enter in a field of a form that says so presses its main button, so that the hands stay on the keyboard.
document.addEventListener("keydown", (event) => {
  const form = event.target.form;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form && "ctrlEnter" in form.dataset) {
    event.preventDefault();
    form.requestSubmit(form.querySelector("button.button--primary[type=submit]:not([name=resolve])"));
  }
});

// A passkey that was refused or cancelled says so beside its button.
document.addEventListener("allauth.error", (event) => {
  const notices = document.querySelectorAll("[data-passkey-failed]");
  notices.forEach((notice) => {
    notice.hidden = false;
  });
  if (notices.length) {
    event.preventDefault();
  }
});

// The account menu closes on Escape and on a click elsewhere, as people expect of a menu.
const account = document.querySelector("details.account");
if (account) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && account.open) {
      account.open = false;
      account.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!account.contains(event.target)) {
      account.open = false;
    }
  });
}
