// The reading page: puts the viewer in the place of the plain picture and connects it with the page around it.
import { Measurements } from "./measurements.js";
import { OutlineEditor } from "./outline_editor.js";
import { askJson, hasUnsent, LoggedOutError, say } from "./page.js";
import { activationFrom, outlineFrom, registerSlices } from "./pictures.js";
import { listenForShortcuts } from "./shortcuts.js";
import { Viewer } from "./viewer.js";
import { PRESETS, windowOf } from "./windows.js";

const SETTLE_MS = 250;
const PAN_PX = 40;
const FULL = "full";

class ReadingPage {
  constructor(root) {
    this.root = root;
    this.stage = root.querySelector("[data-stage]");
    this.slider = root.querySelector("[data-slider]");
    this.status = root.querySelector("[data-status]");
    this.panel = document.querySelector("#reading-panel");
    this.preset = FULL;
    this.turn = 0;
  }

  async start() {
    this.reading = await askJson(this.root.dataset.source);
    const slices = this.reading.slices;
    if (!slices.length) {
      return;
    }
    registerSlices(slices);
    this.viewer = new Viewer(this.stage, slices, {
      onSlice: (slice) => this.#showSlice(slice),
      onChange: () => this.#describe(),
      onStroke: (stroke) => this.editor.onStroke(stroke),
    });
    this.editor = new OutlineEditor(this.root, {
      viewer: this.viewer,
      redraw: () => this.drawLayers(),
      saved: () => this.#refresh({ isPanelOld: true }),
      useTool: (name) => this.useTool(name),
    });
    this.editor.offer(this.reading);
    this.root.hidden = false;
    this.slider.max = slices.length;
    this.root.querySelectorAll("[data-many-slices]").forEach((part) => (part.hidden = slices.length < 2));
    const number = Number(this.root.dataset.slice);
    await this.viewer.start(Math.max(0, slices.findIndex((slice) => slice.number === number)));
    document.querySelector("[data-plain]").hidden = true;
    this.measurements = new Measurements(this.root.querySelector("[data-measured]"), this.viewer);
    this.#connect();
    this.useTool(matchMedia("(pointer: coarse)").matches ? (slices.length > 1 ? "scroll" : "pan") : "window");
    this.usePreset(FULL);
    this.root.dataset.isReady = "";
  }

  #connect() {
    const all = (selector, event, act) =>
      this.root.querySelectorAll(selector).forEach((one) => one.addEventListener(event, () => act(one)));
    all("[data-tool]:is(button)", "click", (button) => this.useTool(button.dataset.tool));
    all("[data-preset]", "click", (button) => this.usePreset(button.dataset.preset));
    all("[data-act]", "click", (button) => this.actions[button.dataset.act]());
    all("[data-layer], [data-opacity]", "input", () => this.drawLayers());
    this.slider.addEventListener("input", () => this.viewer.show(this.slider.valueAsNumber - 1));
    this.stage.addEventListener("pointerdown", () => this.stage.focus({ preventScroll: true }));
    this.dialog = this.root.querySelector("[data-shortcuts]");
    listenForShortcuts(this.stage, this.#keys(), this.root.querySelector("[data-shortcuts-on]"));
    // The analysis has moved on: the panel has been exchanged, and the picture may have more to show.
    document.body.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target?.id === "reading-panel" || event.target.id === "reading-panel") {
        this.panel = document.querySelector("#reading-panel");
        if (event.detail.requestConfig?.elt.id === "reading-panel") {
          this.#refresh({ isPanelOld: false });
        }
      }
    });
  }

  get actions() {
    return {
      previous: () => this.viewer.show(this.viewer.index - 1),
      next: () => this.viewer.show(this.viewer.index + 1),
      enlarge: () => this.viewer.zoomBy(1),
      reduce: () => this.viewer.zoomBy(-1),
      fit: () => this.viewer.fit(),
      invert: () => this.viewer.invert(),
      help: () => this.dialog.showModal(),
      close: () => this.dialog.close(),
    };
  }

  #keys() {
    const { viewer, editor, actions } = this;
    const toggle = (name) => () => {
      const box = this.root.querySelector(`[data-layer="${name}"]`);
      box.checked = !box.checked;
      this.drawLayers();
    };
    return {
      ArrowLeft: actions.previous,
      ArrowUp: actions.previous,
      ArrowRight: actions.next,
      ArrowDown: actions.next,
      PageUp: () => viewer.show(viewer.index - 10),
      PageDown: () => viewer.show(viewer.index + 10),
      Home: () => viewer.show(0),
      End: () => viewer.show(viewer.slices.length - 1),
      "Shift+ArrowLeft": () => viewer.panBy(-PAN_PX, 0),
      "Shift+ArrowRight": () => viewer.panBy(PAN_PX, 0),
      "Shift+ArrowUp": () => viewer.panBy(0, -PAN_PX),
      "Shift+ArrowDown": () => viewer.panBy(0, PAN_PX),
      0: () => this.usePreset(FULL),
      ...Object.fromEntries(PRESETS.map((name, at) => [at + 1, () => this.usePreset(name)])),
      "+": actions.enlarge,
      "=": actions.enlarge,
      "-": actions.reduce,
      f: actions.fit,
      i: actions.invert,
      w: () => this.useTool("window"),
      p: () => this.useTool("pan"),
      z: () => this.useTool("zoom"),
      s: () => this.useTool("scroll"),
      l: () => this.useTool("length"),
      a: () => this.useTool("area"),
      b: () => editor.use(1),
      e: () => editor.use(0),
      "[": () => editor.resize(-1),
      "]": () => editor.resize(1),
      u: () => editor.undo(),
      o: toggle("outlines"),
      m: toggle("activation"),
      Delete: () => this.measurements.removeLast(),
      Backspace: () => this.measurements.removeLast(),
      n: () => document.querySelector("[data-next-study]")?.click(),
      t: () => document.querySelector("#editor textarea[name=impression], [data-first-impression] select")?.focus(),
      "?": actions.help,
    };
  }

  useTool(name) {
    this.viewer.selectTool(name);
    this.root
      .querySelectorAll("button[data-tool]")
      .forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === name)));
    if (name !== "brush") {
      this.viewer.overlay.setBrush(null);
    }
  }

  usePreset(name) {
    this.preset = name;
    this.viewer.setWindow(windowOf(name, this.viewer.slice.hounsfield ?? null));
  }

  #showSlice(slice) {
    const hasHounsfield = Boolean(slice.hounsfield);
    if (this.hasHounsfield !== undefined && hasHounsfield !== this.hasHounsfield) {
      this.hasHounsfield = hasHounsfield;
      this.usePreset(this.preset);
    }
    this.hasHounsfield = hasHounsfield;
    this.slider.value = this.viewer.index + 1;
    const place = say(this.root, "place", { number: slice.number, count: this.viewer.slices.length });
    this.slider.setAttribute("aria-valuetext", place);
    this.stage.setAttribute("aria-label", say(this.root, "picture", { place }));
    this.status.textContent = place;
    this.root.querySelectorAll("[data-if]").forEach((note) => {
      const facts = {
        hounsfield: hasHounsfield,
        greys: !hasHounsfield,
        millimetres: slice.row_spacing_mm !== null,
        pixels: slice.row_spacing_mm === null,
      };
      note.hidden = !facts[note.dataset.if];
    });
    this.editor.showSlice(slice, this.reading.is_ai_revealed && this.reading.can_change);
    this.#showLayerControls(slice);
    this.drawLayers();
    const address = new URL(location.href);
    address.searchParams.set("slice", slice.number);
    history.replaceState(history.state, "", address);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.#fetchPanel(), SETTLE_MS);
  }

  // The panel beside the picture belongs to one slice. What was typed in it stays until it is sent.
  #fetchPanel({ isOld = false } = {}) {
    const { number } = this.viewer.slice;
    if (!isOld && Number(this.panel.dataset.slice) === number) {
      return;
    }
    const isKept = hasUnsent(this.panel);
    const note = document.querySelector("[data-panel-kept]");
    note.hidden = !isKept;
    if (isKept) {
      note.textContent = say(this.root, "panel-kept", { number: this.panel.dataset.slice });
      return;
    }
    window.htmx.ajax("GET", `${this.root.dataset.panel}?slice=${number}`, { target: "#reading-panel", swap: "outerHTML" });
  }

  async #refresh({ isPanelOld }) {
    try {
      this.reading = await askJson(this.root.dataset.source);
    } catch (error) {
      this.#failed(error);
      return;
    }
    const fresh = new Map(this.reading.slices.map((slice) => [slice.id, slice]));
    for (const slice of this.viewer.slices) {
      Object.assign(slice, fresh.get(slice.id));
    }
    this.editor.offer(this.reading);
    this.editor.showSlice(this.viewer.slice, this.reading.is_ai_revealed && this.reading.can_change);
    this.#showLayerControls(this.viewer.slice);
    await this.drawLayers();
    if (isPanelOld) {
      this.#fetchPanel({ isOld: true });
    }
  }

  #failed(error) {
    this.status.textContent = say(this.root, error instanceof LoggedOutError ? "logged-out" : "not-loaded");
  }

  #describe() {
    const shown = this.viewer.window;
    const readout = this.root.querySelector("[data-readout]");
    if (!shown || !readout) {
      return;
    }
    const percent = Math.round(this.viewer.zoom * 100);
    const unit = this.viewer.slice.hounsfield ? "readout-hounsfield" : "readout-greys";
    readout.textContent = say(this.root, unit, {
      width: Math.round(shown.width),
      level: Math.round(shown.centre),
      zoom: percent,
    });
    const hounsfield = this.viewer.slice.hounsfield ?? null;
    this.root.querySelectorAll("[data-preset]").forEach((button) => {
      const wanted = windowOf(button.dataset.preset, hounsfield);
      const isShown = Math.abs(wanted.centre - shown.centre) < 1 && Math.abs(wanted.width - shown.width) < 1;
      button.setAttribute("aria-pressed", String(isShown));
    });
  }

  #showLayerControls(slice) {
    const { is_ai_revealed: isRevealed } = this.reading;
    this.root.querySelector("[data-layers]").hidden = !isRevealed || (!slice.analysis && !slice.reviews?.length);
    this.root.querySelectorAll("[data-hidden-until-read]").forEach((note) => (note.hidden = isRevealed));
  }

  /** Draw what is switched on over the slice that is shown; what is switched off is not even fetched. */
  async drawLayers() {
    this.turn += 1;
    const { turn, viewer } = this;
    const { slice, overlay } = viewer;
    const isOn = (name) => this.reading.is_ai_revealed && this.root.querySelector(`[data-layer="${name}"]`).checked;
    overlay.setOpacity(this.root.querySelector("[data-opacity]").valueAsNumber / 100);
    const drawn = this.editor.outlinesOf(slice);
    if (this.shownOn !== slice.id) {
      overlay.setOutlines(drawn); // never the outlines of another slice, not even for a moment
      overlay.setActivation(null);
      this.shownOn = slice.id;
    }
    try {
      const outlines = isOn("outlines") ? await this.#outlinesOf(slice) : [];
      const activation =
        isOn("activation") && slice.analysis ? await activationFrom(slice.analysis.activation_url, slice) : null;
      if (turn === this.turn) {
        overlay.setOutlines([...outlines, ...this.editor.outlinesOf(slice)]);
        overlay.setActivation(activation);
        this.root.dataset.shown = `${outlines.length} ${activation ? "activation" : ""}`.trim();
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  async #outlinesOf(slice) {
    const wanted = [];
    for (const { number, outline_url: model, review } of slice.analysis?.findings ?? []) {
      if (review?.verdict === "rejected") {
        continue;
      }
      wanted.push({ address: model, kind: "model", label: `${number}` });
      if (review?.outline_url) {
        wanted.push({ address: review.outline_url, kind: "doctor", label: "" });
      }
    }
    for (const { number, outline_url: drawn, verdict } of slice.reviews ?? []) {
      if (verdict !== "rejected" && drawn) {
        wanted.push({ address: drawn, kind: "doctor", label: `${number}` });
      }
    }
    return Promise.all(
      wanted
        .filter(({ address }) => address)
        .map(async ({ address, kind, label }) => ({ mask: await outlineFrom(address, slice), size: slice, kind, label })),
    );
  }
}

const root = document.querySelector("[data-reading]");
if (root) {
  const page = new ReadingPage(root);
  page.start().catch((error) => {
    // The plain picture stays where it is: a page without the viewer is still a page.
    root.hidden = true;
    const notice = document.querySelector("[data-viewer-failed]");
    if (notice) {
      notice.hidden = false;
    }
    console.error(error);
  });
}
