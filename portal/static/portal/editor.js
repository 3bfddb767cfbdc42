// The editor of a report's draft: it saves itself, and what is not saved yet outlives a lost session or network, a
// closed tab and a crash, because the browser keeps it until the portal has confirmed it. Without this script the form
// has buttons that do the same by hand.

const IDLE_MS = 1500; // after the last key
const RETRY_MS = 5000; // after a failure, doubled up to a minute
const ASK_MS = 15000; // who else is here, and has the text changed
const FIELDS = ["findings_text", "impression"];
const KEEP_DAYS = 7;

const csrfToken = (form) => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] || form.elements.csrfmiddlewaretoken.value;
const equal = (one, other) => FIELDS.every((name) => one[name] === other[name]);
// As the portal stores it, so that equal texts are equal.
const unified = (text) => Object.fromEntries(FIELDS.map((name) => [name, (text[name] || "").replaceAll("\r\n", "\n").trim()]));

// The browser's store may be switched off or full; then the page still saves itself, it only cannot keep.
const keep = {
  read(key) {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      /* nothing to be done */
    }
  },
  remove(key) {
    try {
      localStorage.removeItem(key);
    } catch {
      /* nothing to be done */
    }
  },
  removeOld() {
    try {
      for (const key of Object.keys(localStorage).filter((name) => name.startsWith("ira-draft:"))) {
        if (!(Date.now() - (keep.read(key)?.typed_at || 0) < KEEP_DAYS * 86400000)) {
          localStorage.removeItem(key);
        }
      }
    } catch {
      /* nothing to be done */
    }
  },
};

class Editor {
  constructor(form) {
    this.form = form;
    this.key = form.dataset.keepKey;
    this.words = form.querySelector("[data-words]").dataset;
    this.stored = unified(Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].defaultValue])));
    this.lastSent = null;
    this.isConflicting = "conflicting" in form.dataset;
    this.isOver = false;
    this.failures = 0;
    this.timer = null;
    this.running = null;
    this.isLeaving = false;
    this.part = (name) => form.querySelector(`[data-${name}]`);
    if ("unsaved" in form.dataset || this.isConflicting) {
      this.stored = null;
    }
    this.restore();
    this.listen();
    if (this.stored && this.isDirty && !this.running) {
      // Typed before this script had arrived.
      this.typed();
    }
    setInterval(() => this.ask(), ASK_MS);
  }

  get text() {
    return unified(Object.fromEntries(FIELDS.map((name) => [name, this.form.elements[name].value])));
  }

  get revision() {
    return Number(this.form.elements.revision.value);
  }

  get isDirty() {
    return this.stored === null || !equal(this.text, this.stored);
  }

  fill(text) {
    for (const name of FIELDS) {
      this.form.elements[name].value = text[name];
    }
  }

  show(state, sentence, { canRetry = false, canLogIn = false } = {}) {
    this.part("save-state").dataset.saveState = state;
    this.part("save-text").textContent = sentence;
    this.part("retry").hidden = !canRetry;
    this.part("log-in").hidden = !canLogIn;
  }

  // ---- what the browser kept -------------------------------------------------------------------------------------
  restore() {
    const kept = keep.read(this.key);
    if (!kept || this.isConflicting) {
      return;
    }
    const text = unified(kept);
    if (equal(text, this.text)) {
      if (!this.isDirty) {
        keep.remove(this.key);
      }
    } else {
      this.fill(text);
      if (!kept.sent || !this.stored || !equal(unified(kept.sent), this.stored)) {
        this.form.elements.revision.value = kept.revision;
      }
      this.part("restored").hidden = false;
    }
    if (this.isDirty) {
      // A stale revision is answered with both texts, a fresh one with "saved".
      this.save();
    }
  }

  remember() {
    keep.write(this.key, { ...this.text, revision: this.revision, sent: this.lastSent, typed_at: Date.now() });
  }

  // ---- saving ----------------------------------------------------------------------------------------------------
  typed() {
    this.remember();
    if (this.isConflicting || this.isOver) {
      return;
    }
    if (this.part("save-state").dataset.saveState !== "failed") {
      this.show("typing", this.words.typing);
    }
    this.saveIn(IDLE_MS);
  }

  saveIn(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), milliseconds);
  }

  left() {
    // Not after a failure: the field is left by pressing "Log in again" or "Try again now", and these would move away
    // between press and release if the text above them changed.
    if (this.isDirty && this.part("save-state").dataset.saveState !== "failed") {
      this.save();
    }
  }

  async save() {
    clearTimeout(this.timer);
    if (this.running) {
      await this.running;
    }
    if (!this.isDirty || this.isConflicting || this.isOver || this.isLeaving) {
      return !this.isDirty;
    }
    this.running = this.send();
    try {
      return await this.running;
    } finally {
      this.running = null;
    }
  }

  request(text, options = {}) {
    const body = new FormData(this.form);
    body.delete("template");
    body.delete("next");
    body.set("csrfmiddlewaretoken", csrfToken(this.form));
    for (const name of FIELDS) {
      body.set(name, text[name]);
    }
    return fetch(this.form.action, {
      method: "POST",
      body,
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      ...options,
    });
  }

  async send() {
    const text = this.text;
    this.lastSent = text;
    this.show("saving", this.words.saving);
    let response;
    let answer;
    try {
      response = await this.request(text, { signal: AbortSignal.timeout(20000) });
      if (response.status === 404) {
        this.gone();
        return false;
      }
      answer = await response.json();
    } catch {
      this.failed(this.words.failed);
      return false;
    }
    return this.take(answer, text);
  }

  take(answer, text) {
    if (answer.state === "saved") {
      this.saved(text, answer);
      return true;
    }
    if (answer.state === "conflict") {
      if (this.lastGone && equal(unified(answer.stored), this.lastGone)) {
        // The stored text is one that this very page has sent: its answer was lost on the way.
        this.form.elements.revision.value = answer.revision;
        this.stored = unified(answer.stored);
        this.saveIn(0);
        return false;
      }
      this.conflict(answer, text);
      return false;
    }
    if (answer.state === "logged_out") {
      this.show("failed", answer.sentence, { canLogIn: true, canRetry: true });
      return false;
    }
    if (answer.state === "signed") {
      this.isOver = true;
      this.show("failed", answer.sentence);
      return false;
    }
    this.show("failed", answer.sentence || this.words.failed, { canRetry: true });
    return false;
  }

  saved(text, answer) {
    this.failures = 0;
    this.stored = text;
    this.lastGone = null;
    this.form.elements.revision.value = answer.revision;
    this.part("restored").hidden = true;
    this.present(answer.others);
    if (this.isDirty) {
      this.remember();
      this.saveIn(IDLE_MS);
    } else {
      keep.remove(this.key);
      this.show("saved", `${this.words.saved} ${answer.saved_at}`);
    }
  }

  // Somebody has discarded the draft: sending the text again would never end.
  gone() {
    this.isOver = true;
    this.show("failed", this.words.gone);
  }

  failed(sentence) {
    // Whether the text has arrived is not known: if it has, the next answer shows it.
    this.lastGone = this.lastSent;
    this.failures += 1;
    this.show("failed", sentence, { canRetry: true });
    this.saveIn(Math.min(RETRY_MS * 2 ** (this.failures - 1), 60000));
  }

  // ---- two doctors -----------------------------------------------------------------------------------------------
  conflict(answer, mine) {
    this.isConflicting = true;
    this.both = unified(answer.both);
    this.theirs = unified(answer.stored);
    this.form.elements.revision.value = answer.revision;
    for (const name of FIELDS) {
      this.part(`stored="${name}"`).textContent = answer.stored[name];
      this.part(`mine="${name}"`).textContent = mine[name];
    }
    this.part("conflict-sentence").textContent = answer.sentence;
    this.part("restored").hidden = true;
    const section = this.part("conflict");
    section.hidden = false;
    this.show("failed", this.words.conflictState);
    this.remember();
  }

  resolve(choice) {
    if (choice !== "mine") {
      this.fill(choice === "both" ? this.both : this.theirs);
    }
    this.stored = this.theirs;
    this.isConflicting = false;
    this.part("conflict").hidden = true;
    this.form.elements.impression.focus();
    if (this.isDirty) {
      this.remember();
      this.save();
    } else {
      keep.remove(this.key);
      this.show("saved", this.words.theirs);
    }
  }

  present(names) {
    this.part("presence").hidden = !names?.length;
    this.part("presence-text").textContent = names?.length ? `${names.join(", ")} ${this.words.present}` : "";
  }

  async ask() {
    if (document.hidden || this.isConflicting || this.isOver || this.isLeaving) {
      return;
    }
    let answer;
    try {
      const response = await fetch(this.form.dataset.stateUrl, { headers: { Accept: "application/json" } });
      if (response.redirected) {
        this.show("failed", this.words.loggedOut, { canLogIn: true });
        return;
      }
      if (response.status === 404) {
        this.gone();
        return;
      }
      if (!response.ok) {
        return;
      }
      answer = await response.json();
    } catch {
      return;
    }
    this.present(answer.others);
    const isNews = answer.revision > this.revision && !this.running;
    if (answer.state === "draft" && isNews && this.isDirty) {
      // Answered with both texts.
      this.save();
    } else if (answer.state !== "draft" || isNews) {
      this.show("failed", answer.sentence);
      this.part("reload").hidden = false;
    }
  }

  // ---- events ----------------------------------------------------------------------------------------------------
  listen() {
    this.form.addEventListener("input", (event) => FIELDS.includes(event.target.name) && this.typed());
    this.form.addEventListener("focusout", (event) => FIELDS.includes(event.target.name) && this.left());
    this.part("retry").addEventListener("click", () => this.save());
    this.part("discard").addEventListener("click", () => {
      keep.remove(this.key);
      this.reload();
    });
    this.part("reload").addEventListener("click", () => this.reload());
    window.addEventListener("online", () => this.isDirty && this.save());
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) {
        this.isLeaving = false;
      }
    });
    window.addEventListener("pagehide", () => this.leave());
    // On going: before somebody closes the tab. On coming back: perhaps from logging in in another one.
    document.addEventListener("visibilitychange", () => this.isDirty && this.save());
    this.form.addEventListener("submit", (event) => this.submitted(event));
    document.addEventListener("submit", (event) => this.loggingOut(event), { capture: true });
  }

  reload() {
    this.isLeaving = true;
    // Without what the browser would put back into the fields by itself.
    window.location.assign(window.location.pathname + window.location.search);
  }

  leave() {
    if (this.isDirty && !this.isConflicting && !this.isOver && !this.isLeaving) {
      this.lastSent = this.text;
      this.lastGone = this.text;
      this.remember();
      this.request(this.text, { keepalive: true }).catch(() => {});
    }
  }

  async submitted(event) {
    const button = event.submitter;
    if (button?.name === "resolve" && this.both) {
      event.preventDefault();
      this.resolve(button.value);
      return;
    }
    if (this.isConflicting && button?.name !== "resolve") {
      event.preventDefault();
      this.part("conflict").scrollIntoView({ block: "start" });
      this.part("conflict").querySelector("button").focus({ preventScroll: true });
      return;
    }
    clearTimeout(this.timer);
    if (button?.name === "resolve") {
      // The form carries the text and the choice; what the browser has kept is part of neither any more.
      keep.remove(this.key);
    } else if (this.running || (this.isDirty && !this.isConflicting && !this.isOver && !this.hasTried)) {
      // First as it always is: two at once with one revision, and the second would be told that somebody was faster.
      event.preventDefault();
      this.remember();
      await this.save();
      this.hasTried = !this.isConflicting;
      if (this.hasTried) {
        this.form.requestSubmit(button);
      }
      return;
    }
    this.hasTried = false;
    this.isLeaving = true;
  }

  async loggingOut(event) {
    const form = event.target;
    if (new URL(form.action).pathname !== document.body.dataset.logoutPath || !this.isDirty) {
      return;
    }
    if (this.mayLogOut) {
      // Said twice: the text is lost, in this browser too, whose next user may be somebody else.
      this.isLeaving = true;
      keep.remove(this.key);
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    this.mayLogOut = true;
    if (await this.save()) {
      form.requestSubmit();
    } else {
      this.show("failed", this.words.unsavedLogOut, { canRetry: true });
      this.part("save-state").scrollIntoView({ block: "center" });
    }
  }
}

// A report that was signed while somebody typed: the page has no form any more, the text is shown for copying.
function showKept(section) {
  const kept = keep.read(section.dataset.keptKey);
  if (!kept) {
    return;
  }
  for (const name of FIELDS) {
    section.querySelector(`[data-kept="${name}"]`).textContent = kept[name];
  }
  section.hidden = false;
  section.querySelector("[data-forget]").addEventListener("click", () => {
    keep.remove(section.dataset.keptKey);
    section.hidden = true;
  });
}

keep.removeOld();
document.querySelectorAll("form[data-editor]").forEach((form) => new Editor(form));
document.querySelectorAll("[data-kept-key]").forEach(showKept);
