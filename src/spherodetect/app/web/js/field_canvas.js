/* A photograph with outlines on top, which can be moved and zoomed.

   Two canvases lie on each other: the photograph, and the outlines. When one cell changes, the
   outlines of its box alone are drawn again. "Image" coordinates are pixels of the photograph,
   "screen" coordinates CSS pixels of the canvas. */

import { h } from "./dom.js";
import { drawCorners, markAll, strokeAll, toScreen } from "./strokes.js";

const LEAST_SCALE = 0.02,
  GREATEST_SCALE = 24;
/* How far the drawing of a cell reaches beyond its box. */
const REACH_PX = 16;
/* More boxes than this are not drawn one by one. */
const MANY_BOXES = 40;
/* How far the view may go beyond the photograph. */
const MARGIN_PX = 24;

export class FieldCanvas {
  /* `stylesOf(outline)` returns the strokes of a cell from below to above: {colour, width, dash,
     halo, look, inset}. The same style must be the same object, so that its cells are drawn
     together. `drawOver(context, canvas)` draws on top, for tools. */
  constructor({ stylesOf, drawOver = () => {}, label = "field" }) {
    this.stylesOf = stylesOf;
    this.drawOver = drawOver;
    this.base = h("canvas", { "aria-hidden": "true" });
    this.over = h("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": label,
      class: "drawing",
    });
    this.element = h("div", { class: "stage" }, this.base, this.over);
    this.view = { scale: 1, x: 0, y: 0 };
    this.outlines = null;
    this.image = null;
    this.selected = null;
    this.hidden = false;
    this.waiting = 0;
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.element);
  }

  close() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.waiting);
  }

  /* Show another photograph; `size` is its [width, height] where the image has not come yet. */
  show({ image = null, size, outlines }) {
    this.image = image;
    this.size = size;
    this.outlines = outlines;
    this.selected = null;
    this.fit();
  }

  setImage(image) {
    this.image = image;
    this.paint();
  }

  resize() {
    const { width, height } = this.element.getBoundingClientRect();
    const before = [this.width, this.height];
    [this.width, this.height] = [Math.round(width), Math.round(height)];
    if (!this.width || !this.height) return;
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.base, this.over]) {
      canvas.width = this.width * this.ratio;
      canvas.height = this.height * this.ratio;
    }
    if (!before[0] || this.fitted) this.fit();
    else this.paintNow();
  }

  /* Show the whole photograph. */
  fit() {
    if (!this.size || !this.width) return;
    const scale = Math.min(this.width / this.size[0], this.height / this.size[1]);
    this.view = {
      scale,
      x: (this.size[0] - this.width / scale) / 2,
      y: (this.size[1] - this.height / scale) / 2,
    };
    this.fitted = true;
    this.paintNow();
  }

  toImage(x, y) {
    return [x / this.view.scale + this.view.x, y / this.view.scale + this.view.y];
  }

  toScreen(x, y) {
    return toScreen(this.view, x, y);
  }

  /* The image point of a pointer event. */
  pointOf(event) {
    const box = this.over.getBoundingClientRect();
    return this.toImage(event.clientX - box.left, event.clientY - box.top);
  }

  moveBy(dx, dy) {
    this.setView({
      ...this.view,
      x: this.view.x - dx / this.view.scale,
      y: this.view.y - dy / this.view.scale,
    });
  }

  /* Zoom by a factor about a point of the screen, by default the middle. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [ix, iy] = this.toImage(x, y);
    const scale = Math.min(GREATEST_SCALE, Math.max(LEAST_SCALE, this.view.scale * factor));
    this.setView({ scale, x: ix - x / scale, y: iy - y / scale });
  }

  setView(view) {
    this.view = {
      scale: view.scale,
      x: this.clamp(view.x, view.scale, 0),
      y: this.clamp(view.y, view.scale, 1),
    };
    this.fitted = false;
    this.paint();
  }

  /* Keep the photograph in view: a margin beside it at most, in the middle where it is smaller. */
  clamp(start, scale, axis) {
    const seen = [this.width, this.height][axis] / scale,
      all = this.size[axis],
      margin = MARGIN_PX / scale;
    if (all + 2 * margin <= seen) return (all - seen) / 2;
    return Math.max(-margin, Math.min(all - seen + margin, start));
  }

  /* Move so that an outline can be seen, and zoom in where it is tiny. */
  reveal(outline) {
    const side = Math.max(outline.box[2] - outline.box[0], outline.box[3] - outline.box[1]);
    const scale = side * this.view.scale < 14 ? 40 / side : this.view.scale;
    const [x, y] = this.toScreen(outline.x, outline.y);
    const margin = Math.min(60, this.width / 4);
    const inside = x > margin && y > margin && x < this.width - margin && y < this.height - margin;
    if (inside && scale === this.view.scale) return;
    this.setView({
      scale,
      x: outline.x - this.width / 2 / scale,
      y: outline.y - this.height / 2 / scale,
    });
  }

  /* Choose a cell by its id, or none. */
  select(id) {
    if (this.selected === id) return;
    const changed = [this.selected, id].filter((one) => one !== null);
    this.selected = id;
    this.repaint(changed);
  }

  hide(hidden) {
    if (this.hidden === hidden) return;
    this.hidden = hidden;
    this.paintNow();
  }

  /* Draw all at the next frame. */
  paint() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => this.paintNow());
  }

  paintNow() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    if (!this.width) return;
    this.paintImage();
    const context = this.context(this.over);
    context.clearRect(0, 0, this.width, this.height);
    if (this.outlines && !this.hidden) {
      const [x0, y0] = this.toImage(0, 0),
        [x1, y1] = this.toImage(this.width, this.height);
      this.drawOutlines(context, this.outlines.near([x0, y0, x1, y1]));
    }
    this.drawOver(context, this);
  }

  /* Draw the boxes of these cells again, now; `boxes` are further boxes in image pixels. */
  repaint(ids, boxes = []) {
    if (this.waiting || this.hidden || !this.outlines || !this.width) return this.paint();
    const own = ids.map((id) => this.outlines.byId.get(id)?.box).filter(Boolean);
    if (own.length + boxes.length > MANY_BOXES) return this.paint();
    const context = this.context(this.over);
    for (const box of [...own, ...boxes]) this.repaintBox(context, box);
    return undefined;
  }

  repaintBox(context, box) {
    const reach = REACH_PX / this.view.scale;
    const wide = [box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach];
    const [x0, y0] = this.toScreen(wide[0], wide[1]).map(Math.floor);
    const [x1, y1] = this.toScreen(wide[2], wide[3]).map(Math.ceil);
    context.save();
    context.beginPath();
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.clip();
    context.clearRect(x0, y0, x1 - x0, y1 - y0);
    const further = [wide[0] - reach, wide[1] - reach, wide[2] + reach, wide[3] + reach];
    this.drawOutlines(context, this.outlines.near(further));
    this.drawOver(context, this);
    context.restore();
  }

  paintImage() {
    const context = this.context(this.base);
    context.fillStyle = "#e9edf1";
    context.fillRect(0, 0, this.width, this.height);
    if (!this.image) return;
    const [x, y] = this.toScreen(0, 0);
    context.imageSmoothingEnabled = this.view.scale < 4;
    context.drawImage(
      this.image,
      x,
      y,
      this.size[0] * this.view.scale,
      this.size[1] * this.view.scale,
    );
  }

  context(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return context;
  }

  drawOutlines(context, outlines) {
    const groups = new Map();
    for (const outline of outlines) {
      for (const style of this.stylesOf(outline)) {
        if (!groups.has(style)) groups.set(style, []);
        groups.get(style).push(outline);
      }
    }
    const ordered = [...groups].sort(([a], [b]) => (a.order || 0) - (b.order || 0));
    for (const [style, members] of ordered) strokeAll(context, this.view, style, members);
    for (const [style, members] of ordered) markAll(context, this.view, style, members);
    const chosen = this.outlines.byId.get(this.selected);
    if (chosen) drawCorners(context, this.view, chosen.box);
  }
}
