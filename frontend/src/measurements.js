// The list of what was measured, beside the picture: for those who do not see the lines, and to take lines away again.
import { eventTarget } from "@cornerstonejs/core";
import { annotation, Enums, LengthTool, PlanarFreehandROITool, utilities } from "@cornerstonejs/tools";
import { say } from "./page.js";
import { imageIdOf } from "./pictures.js";

const { ChangeTypes, Events } = Enums;
const NAMES = { [LengthTool.toolName]: "length", [PlanarFreehandROITool.toolName]: "area" };

/** Keep the list in step with the lines on the picture. */
export class Measurements {
  /**
   * @param {HTMLElement} section with a [data-measurements] list and a <template> for one line of it
   * @param {import("./viewer.js").Viewer} viewer
   */
  constructor(section, viewer) {
    this.section = section;
    this.list = section.querySelector("[data-measurements]");
    this.template = section.querySelector("template");
    this.viewer = viewer;
    for (const event of [Events.ANNOTATION_COMPLETED, Events.ANNOTATION_MODIFIED, Events.ANNOTATION_REMOVED]) {
      eventTarget.addEventListener(event, () => this.#soon());
    }
    // A value is worked out at most every tenth of a second, the last one after the line has been let go: the text at
    // the line would go on showing the one before.
    eventTarget.addEventListener(Events.ANNOTATION_MODIFIED, ({ detail }) => {
      if (detail.changeType === ChangeTypes.StatsUpdated) {
        utilities.triggerAnnotationRenderForViewportIds([viewer.viewport.id]);
      }
    });
  }

  // Values are worked out while the picture is drawn, so the list follows the drawing.
  #soon() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => requestAnimationFrame(() => this.show()));
  }

  #all() {
    const order = new Map(this.viewer.slices.map((slice) => [imageIdOf(slice), slice.number]));
    return annotation.state
      .getAllAnnotations()
      .filter((one) => one.metadata.toolName in NAMES)
      .map((one) => ({ uid: one.annotationUID, number: order.get(one.metadata.referencedImageId), ...valueOf(one) }))
      .filter((one) => one.value);
  }

  /** Write the list anew. */
  show() {
    const lines = this.#all().map(({ uid, number, kind, value, unit }) => {
      const line = this.template.content.cloneNode(true);
      const text = line.querySelector(`[data-kind="${kind}"]`);
      line.querySelector("[data-number]").textContent = number;
      line.querySelector("[data-value]").textContent = `${value.toFixed(1)} ${unit}`;
      line.querySelectorAll("[data-kind]").forEach((one) => one !== text && one.remove());
      const insert = line.querySelector("[data-insert]");
      insert.hidden = !this.findings;
      insert.addEventListener("click", () => this.#insert(kind, { number, value: `${value.toFixed(1)} ${unit}` }));
      line.querySelector("[data-goto]").addEventListener("click", () => this.#goTo(number));
      line.querySelector("[data-remove]").addEventListener("click", () => this.remove(uid));
      return line;
    });
    this.list.replaceChildren(...lines);
    this.section.hidden = lines.length === 0;
  }

  /** The field of the report's draft that a measurement can be written into; null while there is no draft. */
  get findings() {
    return document.querySelector("#editor textarea[name=findings_text]");
  }

  #insert(kind, values) {
    const { findings } = this;
    const sentence = say(this.section.closest("[data-reading]"), `measured-${kind}`, values);
    findings.value = `${findings.value.trimEnd()}\n${sentence}`.trimStart();
    // As if it had been typed: the draft saves itself.
    findings.dispatchEvent(new Event("input", { bubbles: true }));
    findings.focus();
    findings.setSelectionRange(findings.value.length, findings.value.length);
  }

  #goTo(number) {
    this.viewer.show(this.viewer.slices.findIndex((slice) => slice.number === number));
    this.viewer.element.focus();
  }

  /** Take one line away. */
  remove(uid) {
    annotation.state.removeAnnotation(uid);
    this.viewer.viewport.render();
    this.show();
    this.viewer.element.focus();
  }

  /** Take the line away that was drawn last. */
  removeLast() {
    const last = annotation.state
      .getAllAnnotations()
      .filter((one) => one.metadata.toolName in NAMES)
      .at(-1);
    if (last) {
      this.remove(last.annotationUID);
    }
  }
}

function valueOf(one) {
  const stats = Object.values(one.data.cachedStats ?? {})[0] ?? {};
  return NAMES[one.metadata.toolName] === "length"
    ? { kind: "length", value: stats.length, unit: stats.unit }
    : { kind: "area", value: stats.area, unit: stats.areaUnit };
}
