// The picture: Cornerstone3D with the tools that a reader of chest slices needs.
import { Enums, getEnabledElement, init, RenderingEngine, setUseCPURendering, Settings } from "@cornerstonejs/core";
import {
  addTool,
  annotation,
  BaseTool,
  Enums as ToolEnums,
  init as initTools,
  LengthTool,
  PanTool,
  PlanarFreehandROITool,
  StackScrollTool,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
} from "@cornerstonejs/tools";
import { Overlay } from "./overlay.js";
import { imageIdOf, prefetchAround } from "./pictures.js";
import { rangeOf, windowOfRange } from "./windows.js";

const ENGINE = "reading";
const VIEWPORT = "slice";
const GROUP = "reading";
const { MouseBindings, KeyboardBindings } = ToolEnums;
const ZOOM_STEP = 1.25;

// The picture at least half as large as it fits, at most thirty times: nobody loses it.
const ZOOM_LIMITS = { minZoomScale: 0.5, maxZoomScale: 30 };
const zoomBy = (viewport, factor) => {
  // Cornerstone counts in pixels of the device, which on a phone are three for each pixel of a page.
  const ratio = window.devicePixelRatio || 1;
  const wanted = (viewport.getZoom() / ratio) * factor;
  viewport.setZoom(ratio * Math.min(Math.max(wanted, ZOOM_LIMITS.minZoomScale), ZOOM_LIMITS.maxZoomScale));
};
const apart = ([one, other]) => Math.hypot(one.canvas[0] - other.canvas[0], one.canvas[1] - other.canvas[1]);

/** Zooms with the picture staying under both fingers; Cornerstone's own is many times faster than the fingers. */
class SteadyZoomTool extends ZoomTool {
  static toolName = "SteadyZoom";

  _pinchCallback(evt) {
    const { currentPointsList: now, lastPointsList: before, element } = evt.detail;
    if (now.length < 2 || before.length < 2) {
      return;
    }
    const { viewport } = getEnabledElement(element);
    zoomBy(viewport, apart(now) / Math.max(1, apart(before)));
    const [left, top] = viewport.getPan();
    const [x, y] = evt.detail.deltaPoints.canvas;
    viewport.setPan([left + x, top + y]);
    viewport.render();
  }
}

/** Draws in a mask: tells the listener where the brush goes, in pixels of the slice. */
class OutlineBrushTool extends BaseTool {
  static toolName = "OutlineBrush";

  constructor(toolProps = {}, defaults = { supportedInteractionTypes: ["Mouse", "Touch"], configuration: {} }) {
    super(toolProps, defaults);
    this.mouseDragCallback = this.#drag;
    this.touchDragCallback = this.#drag;
  }

  preMouseDownCallback = (evt) => {
    this.configuration.onStroke({ world: evt.detail.currentPoints.world, isStart: true });
    return true;
  };

  preTouchStartCallback = (evt) => this.preMouseDownCallback(evt);

  #drag = (evt) => this.configuration.onStroke({ world: evt.detail.currentPoints.world, isStart: false });
}

// What a tool button means to Cornerstone.
const TOOLS = {
  window: WindowLevelTool.toolName,
  pan: PanTool.toolName,
  zoom: SteadyZoomTool.toolName,
  scroll: StackScrollTool.toolName,
  length: LengthTool.toolName,
  area: PlanarFreehandROITool.toolName,
  brush: OutlineBrushTool.toolName,
};

// At hand whatever tool is chosen: middle button, right button, wheel, two fingers.
const ALWAYS = {
  [PanTool.toolName]: [{ mouseButton: MouseBindings.Auxiliary }],
  [SteadyZoomTool.toolName]: [
    { mouseButton: MouseBindings.Secondary },
    { mouseButton: MouseBindings.Wheel, modifierKey: KeyboardBindings.Ctrl },
    { numTouchPoints: 2 },
  ],
  [StackScrollTool.toolName]: [{ mouseButton: MouseBindings.Wheel }],
};

/** Everything about the picture and nothing about the page around it. */
export class Viewer {
  /**
   * @param {HTMLElement} element where the picture goes
   * @param {object[]} slices as reading.json names them
   * @param {{onSlice: Function, onChange: Function, onStroke: Function}} listeners
   */
  constructor(element, slices, listeners) {
    this.element = element;
    this.slices = slices;
    this.listeners = listeners;
    this.imageIds = slices.map(imageIdOf);
    this.index = 0;
    this.range = null;
  }

  /** Start Cornerstone and show the slice with this index. */
  async start(index) {
    // The same picture on every machine: with or without a graphics card, on a phone, in a test.
    await init();
    setUseCPURendering(true);
    await initTools();
    // Cornerstone's own cursors are pictures from blob: addresses, which a strict content policy refuses.
    Settings.getRuntimeSettings().set("useCursors", false);
    this.engine = new RenderingEngine(ENGINE);
    this.engine.enableElement({ viewportId: VIEWPORT, element: this.element, type: Enums.ViewportType.STACK });
    this.viewport = this.engine.getViewport(VIEWPORT);
    this.#addTools();
    this.overlay = new Overlay(this.element, (point) => this.toCanvas(point));
    const { Events } = Enums;
    this.element.addEventListener(Events.IMAGE_RENDERED, () => {
      this.overlay.draw();
      this.listeners.onChange();
    });
    this.element.addEventListener(Events.VOI_MODIFIED, (event) => (this.range = event.detail.range));
    this.element.addEventListener(Events.STACK_NEW_IMAGE, (event) => {
      this.#arrived(event.detail.imageIdIndex);
      // Cornerstone forgets the window with every slice of a stack that it draws without WebGL.
      queueMicrotask(() => this.range && this.#setRange(this.range));
    });
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
    // Cornerstone cancels every key that is pressed in the picture, Tab included, and uses none of them here: nobody
    // could leave the picture by keyboard.
    this.element.addEventListener("keydown", (event) => event.stopImmediatePropagation(), { capture: true });
    // With one slice there is nothing to scroll through: the wheel then scrolls the page.
    this.element.parentElement.addEventListener(
      "wheel",
      (event) => {
        if (this.slices.length < 2 && !event.ctrlKey) {
          event.stopPropagation();
        }
      },
      { capture: true },
    );
    new ResizeObserver(() => this.#resized()).observe(this.element);
    await this.viewport.setStack(this.imageIds, index);
    this.#arrived(index);
    this.viewport.render();
  }

  #addTools() {
    const group = ToolGroupManager.createToolGroup(GROUP);
    const configurations = {
      // An open line has no area; the contour is closed where the drawing ends.
      area: { allowOpenContours: false, getTextLines: (data, target) => areaLines(data.cachedStats[target]) },
      brush: { onStroke: (stroke) => this.listeners.onStroke({ ...stroke, at: this.toPixels(stroke.world) }) },
      scroll: { debounceIfNotLoaded: false },
      zoom: ZOOM_LIMITS,
    };
    const classes = [
      WindowLevelTool,
      PanTool,
      SteadyZoomTool,
      StackScrollTool,
      LengthTool,
      PlanarFreehandROITool,
      OutlineBrushTool,
    ];
    for (const tool of classes) {
      addTool(tool);
      const name = Object.keys(TOOLS).find((key) => TOOLS[key] === tool.toolName);
      group.addTool(tool.toolName, configurations[name]);
    }
    group.addViewport(VIEWPORT, ENGINE);
    const styles = annotation.config.style.getDefaultToolStyles();
    annotation.config.style.setDefaultToolStyles({
      ...styles,
      global: {
        ...styles.global,
        color: "rgb(255, 221, 87)",
        colorHighlighted: "rgb(126, 224, 129)",
        colorSelected: "rgb(126, 224, 129)",
        lineWidth: "2",
        textBoxFontSize: "15px",
        textBoxColor: "rgb(255, 221, 87)",
        textBoxBackground: "rgba(20, 16, 0, 0.75)",
        textBoxLinkLineColor: "rgb(255, 221, 87)",
        textBoxLinkLineWidth: "1",
        shadow: true,
      },
    });
    this.group = group;
    this.selectTool("window");
  }

  /** Make a tool answer to the left button and to one finger. */
  selectTool(name) {
    for (const tool of Object.values(TOOLS)) {
      const always = ALWAYS[tool] ?? [];
      this.group.setToolPassive(tool, { removeAllBindings: true });
      const chosen = tool === TOOLS[name] ? [{ mouseButton: MouseBindings.Primary }, { numTouchPoints: 1 }] : [];
      if (chosen.length || always.length) {
        this.group.setToolActive(tool, { bindings: [...chosen, ...always] });
      }
    }
    this.tool = name;
    this.element.dataset.tool = name;
  }

  /** The slice that is shown. */
  get slice() {
    return this.slices[this.index];
  }

  /** Show another slice; resolves when it is on the screen. */
  async show(index) {
    const wanted = Math.min(Math.max(0, index), this.slices.length - 1);
    if (wanted !== this.index) {
      await this.viewport.setImageIdIndex(wanted);
    }
  }

  #arrived(index) {
    const direction = index - this.index;
    this.index = index;
    prefetchAround(this.imageIds, index, direction);
    this.listeners.onSlice(this.slice);
  }

  #resized() {
    if (this.element.clientWidth && this.element.clientHeight) {
      this.engine.resize(true, true);
      this.overlay.draw();
    }
  }

  /** Set the display window, in the unit of the slice. */
  setWindow(display) {
    this.#setRange(rangeOf(display));
  }

  #setRange(range) {
    this.range = range;
    this.viewport.setProperties({ voiRange: range });
    this.viewport.render();
  }

  /** The display window, in the unit of the slice. */
  get window() {
    return this.range ? windowOfRange(this.range) : null;
  }

  /** Show black as white and white as black, or not. */
  invert() {
    this.viewport.setProperties({ invert: !this.viewport.getProperties().invert });
    this.viewport.render();
  }

  /** Screen pixels for one pixel of the slice. */
  get zoom() {
    const origin = this.toCanvas([0, 0]);
    const right = this.toCanvas([1, 0]);
    return Math.hypot(right[0] - origin[0], right[1] - origin[1]);
  }

  /** Enlarge (1) or reduce (-1) by a step. */
  zoomBy(steps) {
    zoomBy(this.viewport, ZOOM_STEP ** steps);
    this.viewport.render();
  }

  /** Shift the picture, in CSS pixels. */
  panBy(x, y) {
    const [left, top] = this.viewport.getPan();
    this.viewport.setPan([left + x, top + y]);
    this.viewport.render();
  }

  /** The whole slice, as large as fits. */
  fit() {
    this.viewport.resetCamera();
    this.viewport.render();
  }

  /** From pixels of the slice to CSS pixels in the element. */
  toCanvas([x, y]) {
    const { origin, spacing } = this.viewport.getImageData();
    return this.viewport.worldToCanvas([origin[0] + x * spacing[0], origin[1] + y * spacing[1], origin[2]]);
  }

  /** From Cornerstone's world to pixels of the slice. */
  toPixels(world) {
    const { origin, spacing } = this.viewport.getImageData();
    return [(world[0] - origin[0]) / spacing[0], (world[1] - origin[1]) / spacing[1]];
  }

  /** From a place on the screen to pixels of the slice. */
  pixelsAt(clientX, clientY) {
    const box = this.element.getBoundingClientRect();
    return this.toPixels(this.viewport.canvasToWorld([clientX - box.left, clientY - box.top]));
  }
}

function areaLines(stats) {
  return stats?.area ? [`${stats.area.toFixed(1)} ${stats.areaUnit}`] : undefined;
}
