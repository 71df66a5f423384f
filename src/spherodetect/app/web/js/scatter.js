/* A plot of points with marks, which a lasso chooses. */

import { app } from "./app.js";
import { h } from "./dom.js";
import { contains, makeOutline } from "./outlines.js";
import { drawMark } from "./palette.js";

const PAD = 24,
  RADIUS = 4.5,
  FAR_OUT = 0.002;

export class Scatter {
  /* `onChoose(points)` is called with the points of the lasso. */
  constructor({ onChoose, label }) {
    this.onChoose = onChoose;
    this.points = [];
    this.lasso = [];
    this.chosen = new Set();
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.element = h("div", { class: "scatter" }, this.canvas);
    this.watcher = new ResizeObserver(() => this.paint());
    this.watcher.observe(this.element);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.lasso = [this.place(event)];
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.lasso.length) return;
      this.lasso.push(this.place(event));
      this.paint();
    });
    this.canvas.addEventListener("pointerup", () => this.close());
    this.canvas.addEventListener("pointercancel", () => {
      this.lasso = [];
      this.paint();
    });
  }

  end() {
    this.watcher.disconnect();
  }

  show(points) {
    this.points = points;
    this.chosen.clear();
    this.range = points.length ? { x: range(points, "x"), y: range(points, "y") } : null;
    this.paint();
  }

  /* Choose points without a lasso. */
  choose(points) {
    this.chosen = new Set(points);
    this.paint();
    this.onChoose(points);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  close() {
    if (this.lasso.length > 3) {
      const around = makeOutline(0, [this.lasso.flat()]);
      this.choose(this.points.filter((point) => contains(around, ...this.at(point))));
    }
    this.lasso = [];
    this.paint();
  }

  at(point) {
    const {
      x: [x0, x1],
      y: [y0, y1],
    } = this.range;
    const across = (value, low, high, length) =>
      PAD + Math.max(0, Math.min(1, (value - low) / (high - low || 1))) * (length - 2 * PAD);
    return [
      across(point.x, x0, x1, this.width),
      this.height - across(point.y, y0, y1, this.height),
    ];
  }

  paint() {
    const box = this.element.getBoundingClientRect();
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    [this.width, this.height] = [Math.round(box.width), Math.round(box.height)];
    if (!this.width) return;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    // Validation lies on top, with a ring around its mark.
    for (const part of ["none", "train", "validation"]) {
      for (const point of this.points) if (point.part === part) this.drawPoint(context, point);
    }
    this.drawLasso(context);
  }

  drawPoint(context, point) {
    const [x, y] = this.at(point);
    const look = app.look(point.label ?? point.shown);
    const unlabelled = point.part === "none";
    context.globalAlpha = unlabelled ? 0.45 : 1;
    if (point.part === "validation" || this.chosen.has(point)) {
      context.beginPath();
      context.arc(x, y, RADIUS + 3.5, 0, 2 * Math.PI);
      context.lineWidth = this.chosen.has(point) ? 3 : 1.5;
      context.strokeStyle = this.chosen.has(point) ? "#0048ba" : "#1b2530";
      context.stroke();
    }
    if (look.path)
      drawMark(context, look, { x, y, radius: unlabelled ? 3 : RADIUS, hollow: unlabelled });
    else {
      context.fillStyle = look.colour;
      context.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
    context.globalAlpha = 1;
  }

  drawLasso(context) {
    if (this.lasso.length < 2) return;
    context.beginPath();
    this.lasso.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.fillStyle = "rgb(0 72 186 / .08)";
    context.fill();
    context.setLineDash([5, 4]);
    context.strokeStyle = "#0048ba";
    context.lineWidth = 1.5;
    context.stroke();
    context.setLineDash([]);
  }
}

/* From where to where an axis reaches: what lies far outside is drawn at the edge. */
function range(points, axis) {
  const values = points.map((point) => point[axis]).sort((a, b) => a - b);
  const share = Math.floor(values.length * FAR_OUT);
  return [values[share], values[values.length - 1 - share]];
}
