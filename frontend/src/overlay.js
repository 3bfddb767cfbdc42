// What lies over the slice: outlines, the activation map, the brush. Cornerstone's own segmentation layers need WebGL;
// this canvas follows Cornerstone's picture by its own transform and needs none, so it looks the same on every machine.
import { edgesOf, labelCornerOf } from "./mask.js";

const COLOURS = { model: "#ffb000", doctor: "#4cc9f0", drawing: "#7ee081" };
const DARK = "#141000";

/** A canvas over Cornerstone's, and the drawing on it. */
export class Overlay {
  /**
   * @param {HTMLElement} element Cornerstone's element
   * @param {(point: [number, number]) => [number, number]} toCanvas from pixels of the slice to CSS pixels
   */
  constructor(element, toCanvas) {
    this.element = element;
    this.toCanvas = toCanvas;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "reader__overlay";
    this.canvas.setAttribute("aria-hidden", "true");
    element.querySelector("canvas.cornerstone-canvas").after(this.canvas);
    this.outlines = [];
    this.activation = null;
    this.opacity = 1;
    this.brush = null;
  }

  /** Show these outlines: mask, size, kind ("model", "doctor" or "drawing"), label. */
  setOutlines(outlines) {
    this.outlines = outlines.map((outline) => {
      const path = new Path2D();
      const edges = edgesOf(outline.mask, outline.size);
      for (let at = 0; at < edges.length; at += 4) {
        path.moveTo(edges[at], edges[at + 1]);
        path.lineTo(edges[at + 2], edges[at + 3]);
      }
      return { ...outline, path, corner: labelCornerOf(outline.mask, outline.size) };
    });
    this.draw();
  }

  /** Show the activation map, or none. */
  setActivation(activation) {
    this.activation = activation;
    this.draw();
  }

  /** How dense everything is, 0..1. */
  setOpacity(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  /** Show the brush at a place in pixels of the slice, or nowhere. */
  setBrush(brush) {
    this.brush = brush;
    this.draw();
  }

  /** Draw everything where the slice is now. */
  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.element.clientWidth * ratio);
    const height = Math.round(this.element.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.outlines.length && !this.activation && !this.brush) {
      return;
    }
    const origin = this.toCanvas([0, 0]);
    const right = this.toCanvas([1, 0]);
    const below = this.toCanvas([0, 1]);
    const place = new DOMMatrix([
      (right[0] - origin[0]) * ratio,
      (right[1] - origin[1]) * ratio,
      (below[0] - origin[0]) * ratio,
      (below[1] - origin[1]) * ratio,
      origin[0] * ratio,
      origin[1] * ratio,
    ]);
    if (this.activation) {
      context.globalAlpha = this.opacity;
      context.setTransform(place);
      context.drawImage(this.activation, 0, 0);
      context.setTransform(1, 0, 0, 1, 0, 0);
    }
    for (const outline of this.outlines) {
      context.globalAlpha = outline.kind === "drawing" ? 1 : this.opacity;
      this.#drawOutline(context, outline, place, ratio);
    }
    if (this.brush) {
      context.globalAlpha = 1;
      const path = new Path2D();
      path.ellipse(this.brush.at[0], this.brush.at[1], this.brush.radius, this.brush.radius, 0, 0, 2 * Math.PI);
      this.#strokeTwice(context, path, place, ratio, this.brush.value ? COLOURS.drawing : "#ffffff");
    }
  }

  #drawOutline(context, { path, kind, label, corner }, place, ratio) {
    this.#strokeTwice(context, path, place, ratio, COLOURS[kind]);
    if (!label || !corner) {
      return;
    }
    const at = place.transformPoint(new DOMPoint(...corner));
    const size = 13 * ratio;
    context.font = `600 ${size}px system-ui, sans-serif`;
    const width = context.measureText(label).width + size * 0.6;
    const x = Math.min(Math.max(0, at.x + 4 * ratio), this.canvas.width - width);
    const y = Math.min(Math.max(0, at.y - size * 1.4), this.canvas.height - size * 1.4);
    context.fillStyle = DARK;
    context.fillRect(x, y, width, size * 1.4);
    context.fillStyle = COLOURS[kind];
    context.textBaseline = "middle";
    context.fillText(label, x + size * 0.3, y + size * 0.72);
  }

  // A dark line under the coloured one: seen on lung and on bone alike.
  #strokeTwice(context, path, place, ratio, colour) {
    const placed = new Path2D();
    placed.addPath(path, place);
    context.lineCap = "square";
    context.strokeStyle = DARK;
    context.lineWidth = 4 * ratio;
    context.stroke(placed);
    context.strokeStyle = colour;
    context.lineWidth = 2 * ratio;
    context.stroke(placed);
  }
}
