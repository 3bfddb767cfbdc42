// Sends the files of a bulk import one small request after the other, with progress, on top of a form that works
// without it. What has arrived stays: after a lost connection or a log-in it goes on where it stopped.

const form = document.querySelector("#import");
const BATCH_FILES = 20;
const BATCH_BYTES = 8 * 1024 * 1024;
const PAUSES_MS = [500, 2000, 5000];

const part = (name) => form.querySelector(`[data-${name}]`);
const inputs = () => [form.elements.loose_files, form.elements.folder];
const say = (name, values = {}) =>
  Object.entries(values).reduce((text, [key, value]) => text.replace(`%(${key})s`, value), form.dataset[name]);
const token = () =>
  document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] || form.elements.csrfmiddlewaretoken.value;

const dropped = [];
let isSending = false;

for (const element of form.querySelectorAll("[data-needs-script]")) {
  element.hidden = false;
}

// ---------- choosing ----------

function chosen() {
  const picked = inputs().flatMap((input) => [...input.files]);
  return [...picked.map((file) => ({ file, path: file.webkitRelativePath || file.name })), ...dropped];
}

function showChosen() {
  const files = chosen();
  const size = files.reduce((sum, { file }) => sum + file.size, 0) / 1024 / 1024;
  part("chosen").textContent = files.length
    ? say("chosen", { count: files.length, size: size.toFixed(size < 10 ? 1 : 0) })
    : say("none");
  part("clear").hidden = files.length === 0;
}

async function* filesOf(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    yield { file, path: entry.fullPath.replace(/^\//, "") };
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A folder answers with a hundred entries at a time, and with none at its end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) {
      return;
    }
    for (const inner of entries) {
      yield* filesOf(inner);
    }
  }
}

const zone = part("drop");
zone.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("drop--over");
});
for (const name of ["dragleave", "drop"]) {
  zone.addEventListener(name, () => zone.classList.remove("drop--over"));
}
zone.addEventListener("drop", async (event) => {
  event.preventDefault();
  if (isSending) {
    return;
  }
  // The items are gone after the first wait, so all are taken first.
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const taken = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  for (const { entry, file } of taken) {
    if (entry) {
      for await (const found of filesOf(entry)) {
        dropped.push(found);
      }
    } else if (file) {
      dropped.push({ file, path: file.name });
    }
  }
  showChosen();
});
form.addEventListener("change", showChosen);
part("clear").addEventListener("click", () => {
  for (const input of inputs()) {
    input.value = "";
  }
  dropped.length = 0;
  showChosen();
  form.elements.loose_files.focus();
});
showChosen();

// ---------- sending ----------

class Refused extends Error {}

function post(address, data, onProgress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("X-CSRFToken", token());
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Error("network")));
    request.addEventListener("timeout", () => reject(new Error("network")));
    request.send(data);
  });
}

function isLoggedOut(request) {
  return new URL(request.responseURL).pathname === document.body.dataset.loginPath;
}

// Small files travel together; a large one travels alone.
function batchesOf(files) {
  const batches = [];
  files.forEach((one, position) => {
    const last = batches.at(-1);
    if (last && last.files.length < BATCH_FILES && last.bytes + one.file.size <= BATCH_BYTES) {
      last.files.push(one);
      last.bytes += one.file.size;
    } else {
      batches.push({ first: position, files: [one], bytes: one.file.size });
    }
  });
  return batches;
}

async function sendBatch(address, batch, onProgress) {
  for (let attempt = 0; ; attempt += 1) {
    const data = new FormData();
    data.append("first", batch.first);
    for (const { file, path } of batch.files) {
      data.append("path", path);
      data.append("files", file, file.name || "file");
    }
    let request;
    try {
      request = await post(address, data, onProgress);
    } catch {
      request = null;
    }
    if (request && isLoggedOut(request)) {
      throw new Refused(say("loggedOut"));
    }
    if (request && request.status === 200) {
      return;
    }
    if (request && request.status >= 400 && request.status < 500) {
      let sentence = say("lost");
      try {
        sentence = JSON.parse(request.responseText).error || sentence;
      } catch {
        // A forbidden or missing page is no JSON; trying again later is all that can be advised.
      }
      throw new Refused(sentence);
    }
    if (attempt === PAUSES_MS.length) {
      throw new Refused(say("lost"));
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSES_MS[attempt]));
  }
}

async function begin(count) {
  const data = new FormData(form);
  data.delete("loose_files");
  data.delete("folder");
  data.set("csrfmiddlewaretoken", token());
  data.set("sends_files_apart", "1");
  data.set("announced_files", count);
  const request = await post(form.action, data);
  if (isLoggedOut(request)) {
    throw new Refused(say("loggedOut"));
  }
  if (request.getResponseHeader("Content-Type")?.startsWith("application/json")) {
    return JSON.parse(request.responseText);
  }
  if (request.status !== 400) {
    throw new Refused(say("lost"));
  }
  // Something in the form needs attention: its fields come back with sentences, the chosen files stay.
  const page = new DOMParser().parseFromString(request.responseText, "text/html");
  const fields = page.querySelector("#import-fields");
  form.querySelector("#import-fields").replaceWith(fields);
  fields.querySelector("[role=alert]")?.scrollIntoView({ block: "center" });
  const wrong = [...fields.querySelectorAll(".field__errors")].map((errors) => errors.closest(".field"));
  wrong[0]?.querySelector("input, select, textarea")?.focus();
  return null;
}

function fail(error) {
  if (!(error instanceof Refused) && error.message !== "network") {
    throw error;
  }
  const box = part("upload-error");
  box.querySelector("p").textContent = error instanceof Refused ? error.message : say("lost");
  box.hidden = false;
  part("resume").hidden = false;
  part("resume").focus();
}

function lock(isLocked) {
  isSending = isLocked;
  part("upload").hidden = !isLocked;
  for (const button of form.querySelectorAll("[type=submit], [data-clear]")) {
    button.disabled = isLocked;
  }
  for (const input of inputs()) {
    input.disabled = isLocked;
  }
}

const journey = { files: [], batches: [], sent: 0, addresses: null };

async function travel() {
  part("upload-error").hidden = true;
  part("resume").hidden = true;
  const bar = form.querySelector("[data-upload] progress");
  const total = journey.batches.reduce((sum, batch) => sum + batch.bytes, 0) || 1;
  try {
    part("upload-text").textContent = say("preparing");
    journey.addresses ??= await begin(journey.files.length);
    if (!journey.addresses) {
      lock(false);
      return;
    }
    while (journey.sent < journey.batches.length) {
      const before = journey.batches.slice(0, journey.sent);
      const bytes = before.reduce((sum, batch) => sum + batch.bytes, 0);
      const batch = journey.batches[journey.sent];
      await sendBatch(journey.addresses.files, batch, (loaded) => {
        bar.value = (bytes + Math.min(loaded, batch.bytes)) / total;
      });
      journey.sent += 1;
      bar.value = (bytes + batch.bytes) / total;
      const sent = batch.first + batch.files.length;
      part("upload-text").textContent = say("sent", { sent, count: journey.files.length });
    }
    const request = await post(journey.addresses.start, new FormData());
    if (isLoggedOut(request)) {
      throw new Refused(say("loggedOut"));
    }
    part("upload-text").textContent = say("starting");
    isSending = false;
    window.location.assign(journey.addresses.page);
  } catch (error) {
    fail(error);
  }
}

form.addEventListener("submit", (event) => {
  const files = chosen();
  if (event.submitter?.name === "find_patient") {
    return;
  }
  if (files.length === 0 || isSending) {
    // Without files the form itself says what is missing.
    if (isSending) {
      event.preventDefault();
    }
    return;
  }
  event.preventDefault();
  if (files.length > Number(form.dataset.limit)) {
    part("chosen").textContent = say("tooMany", { limit: form.dataset.limit });
    part("chosen").scrollIntoView({ block: "center" });
    return;
  }
  const batches = batchesOf(files);
  Object.assign(journey, { files, batches, sent: 0, addresses: null });
  lock(true);
  part("upload").focus();
  travel();
});
part("resume").addEventListener("click", travel);
window.addEventListener("beforeunload", (event) => {
  if (isSending) {
    event.preventDefault();
  }
});
