// Redrawing an outline with brush and eraser, and sending it to be kept beside the model's.
import { areaOf, stroke } from "./mask.js";
import { askJson, LoggedOutError, RefusedError, say } from "./page.js";
import { outlineFrom, pngOf } from "./pictures.js";

const NEW = "";
const UNDO_STEPS = 20;

/** The form that holds the brush, and the mask that is being drawn. */
export class OutlineEditor {
  /**
   * @param {HTMLElement} root the reader
   * @param {{viewer: object, redraw: Function, saved: Function, useTool: Function}} page
   */
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.form = root.querySelector("[data-outline-editor]");
    this.drawing = null;
    if (!this.form) {
      return;
    }
    this.target = this.form.elements.namedItem("target");
    this.size = this.form.elements.namedItem("brush_size");
    this.#on("[data-begin]", () => this.begin());
    this.#on("[data-brush]", () => this.use(1));
    this.#on("[data-eraser]", () => this.use(0));
    this.#on("[data-undo]", () => this.undo());
    this.#on("[data-empty]", () => this.startEmpty());
    this.#on("[data-cancel]", () => this.cancel());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.drawing?.history.length) {
        event.preventDefault();
      }
    });
    page.viewer.element.addEventListener("pointermove", (event) => this.#follow(event));
    page.viewer.element.addEventListener("pointerleave", () => page.viewer.overlay.setBrush(null));
  }

  #on(selector, act) {
    this.form.querySelector(selector).addEventListener("click", act);
  }

  /** Fill in the choices that the portal offers. */
  offer(reading) {
    for (const [name, choices] of Object.entries(reading.choices ?? {})) {
      const field = this.form?.elements.namedItem(name);
      if (field && field.options.length === 1) {
        field.append(...choices.map(({ value, label }) => new Option(label, value)));
      }
    }
  }

  /** Name the findings of the slice that can be redrawn. */
  showSlice(slice, isRevealed) {
    if (!this.form) {
      return;
    }
    this.form.hidden = !isRevealed;
    if (!this.drawing) {
      const chosen = this.target.value;
      const named = this.#lesionsOf(slice).map(({ lesion, label }) => new Option(label, lesion.id));
      this.target.replaceChildren(...named, new Option(say(this.root, "new-finding"), NEW));
      if (named.some((option) => option.value === chosen)) {
        this.target.value = chosen;
      }
    }
    const away = this.form.querySelector("[data-away]");
    away.hidden = !this.drawing || this.drawing.slice.id === slice.id;
    away.textContent = away.hidden ? "" : say(this.root, "drawing-elsewhere", { number: this.drawing.slice.number });
  }

  #lesionsOf(slice) {
    const found = (slice.analysis?.findings ?? []).map((finding) => ({
      lesion: { ...finding, review: finding.review },
      label: say(this.root, "finding", { number: finding.number }),
    }));
    const added = (slice.reviews ?? []).map((review) => ({
      lesion: { ...review, review },
      label: say(this.root, "added-finding", { number: review.number }),
    }));
    return [...found, ...added];
  }

  /** Start to draw: from the doctor's outline if there is one, else from the model's, else from nothing. */
  async begin() {
    const slice = this.page.viewer.slice;
    const lesion = this.#lesionsOf(slice).find((one) => one.lesion.id === this.target.value)?.lesion ?? null;
    const address = lesion?.review?.outline_url ?? lesion?.outline_url;
    let mask;
    try {
      mask = address ? Uint8Array.from(await outlineFrom(address, slice)) : new Uint8Array(slice.width * slice.height);
    } catch {
      this.#tell(say(this.root, "outline-missing"));
      return;
    }
    this.drawing = { slice, lesion, mask, history: [], last: null, token: crypto.randomUUID() };
    this.form.elements.namedItem("diagnosis").value = lesion?.review?.diagnosis ?? "";
    this.form.elements.namedItem("malignancy").value = lesion?.review?.malignancy ?? "";
    this.#tell("");
    this.#showParts();
    this.use(1);
    this.page.redraw();
    this.form.querySelector("[data-brush]").focus({ preventScroll: true });
    this.form.scrollIntoView({ block: "start" });
  }

  #showParts() {
    this.form.querySelector("[data-idle]").hidden = Boolean(this.drawing);
    this.form.querySelector("[data-drawing]").hidden = !this.drawing;
  }

  /** Paint (1) or erase (0). */
  use(value) {
    if (!this.drawing) {
      return;
    }
    this.value = value;
    this.form.querySelector("[data-brush]").setAttribute("aria-pressed", String(value === 1));
    this.form.querySelector("[data-eraser]").setAttribute("aria-pressed", String(value === 0));
    this.page.useTool("brush");
  }

  /** Make the brush larger or smaller by steps. */
  resize(steps) {
    this.size.valueAsNumber += steps * Number(this.size.step || 1);
  }

  /** The brush's radius in pixels of the slice. */
  get radius() {
    return this.size.valueAsNumber / 2;
  }

  /** Follow a stroke of the brush; ``at`` in pixels of the slice. */
  onStroke({ at, isStart }) {
    const drawing = this.drawing;
    if (!drawing || drawing.slice.id !== this.page.viewer.slice.id) {
      return;
    }
    if (isStart) {
      drawing.history.push(Uint8Array.from(drawing.mask));
      drawing.history.splice(0, drawing.history.length - UNDO_STEPS);
      drawing.last = at;
    }
    stroke(drawing.mask, drawing.slice, drawing.last ?? at, at, this.radius, this.value);
    drawing.last = at;
    this.page.redraw();
  }

  #follow(event) {
    const isDrawing = this.drawing && this.page.viewer.tool === "brush" && event.pointerType !== "touch";
    const at = isDrawing ? this.page.viewer.pixelsAt(event.clientX, event.clientY) : null;
    this.page.viewer.overlay.setBrush(at && { at, radius: this.radius, value: this.value });
  }

  /** Take the last stroke back. */
  undo() {
    const before = this.drawing?.history.pop();
    if (before) {
      this.drawing.mask = before;
      this.page.redraw();
    }
  }

  /** Take everything away, as one step that can be taken back. */
  startEmpty() {
    this.drawing.history.push(this.drawing.mask);
    this.drawing.mask = new Uint8Array(this.drawing.mask.length);
    this.page.redraw();
  }

  /** Forget the drawing. */
  cancel() {
    this.drawing = null;
    this.#tell("");
    this.#showParts();
    this.page.viewer.overlay.setBrush(null);
    this.page.useTool("window");
    this.showSlice(this.page.viewer.slice, true);
    this.page.redraw();
    this.form.querySelector("[data-begin]").focus();
  }

  /** The outline that is being drawn on a slice, as the overlay wants it. */
  outlinesOf(slice) {
    return this.drawing?.slice.id === slice.id ? [{ mask: this.drawing.mask, size: slice, kind: "drawing" }] : [];
  }

  /** Send the outline. A refusal leaves the drawing as it is. */
  async save() {
    const { slice, lesion, mask, token } = this.drawing;
    if (!areaOf(mask)) {
      this.#tell(say(this.root, "outline-empty"));
      return;
    }
    const data = new FormData(this.form);
    data.delete("target");
    data.delete("brush_size");
    data.set("verdict", lesion ? "corrected" : "added");
    data.set("outline", await pngOf(mask, slice), "outline.png");
    if (lesion) {
      data.set("seen", lesion.review?.id ?? "");
    } else {
      data.set("token", token);
    }
    const button = this.form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await askJson(lesion?.reviews_url ?? slice.reviews_url, { form: data });
    } catch (error) {
      this.#refused(error);
      return;
    } finally {
      button.disabled = false;
    }
    this.cancel();
    await this.page.saved();
    this.#tell(say(this.root, "outline-saved"));
  }

  #refused(error) {
    if (error instanceof LoggedOutError) {
      this.#tell(say(this.root, "logged-out"));
    } else if (error instanceof RefusedError && error.message) {
      this.#tell(error.message);
      if (error.status === 409 && this.drawing.lesion) {
        // What the colleague judged has been told; sending again says: I know, and I mean it.
        this.drawing.lesion = { ...this.drawing.lesion, review: error.latest };
      }
    } else {
      this.#tell(say(this.root, "not-sent"));
    }
  }

  #tell(sentence) {
    this.form.querySelector("[data-problem]").textContent = sentence;
  }
}
