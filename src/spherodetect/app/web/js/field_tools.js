/* Tools of the field: draw an outline, cut one in two, join two.

   Each works with the pointer, and with the keyboard: arrows move a cross, Enter puts a point,
   Shift+Enter ends an outline, Backspace takes the last point back. */

import { notify } from "./notify.js";
import { cut, signedArea } from "./outlines.js";
import { step } from "./steps.js";

const LEAST_AREA_PX = 4,
  STEP_PX = 12,
  FREEHAND_PX = 3;
const INK = "#0048ba";

/* The points of a tool that is in use. `kind` is "draw" or "cut". */
class PointTool {
  constructor(kind, canvas, done) {
    Object.assign(this, { kind, canvas, done, points: [], at: null });
  }

  down(point) {
    this.pressed = point;
    this.at = point;
    this.add(point);
  }

  move(point) {
    const last = this.points.at(-1);
    const far = Math.hypot(point[0] - last[0], point[1] - last[1]) * this.canvas.view.scale;
    if (this.kind === "draw" && far >= FREEHAND_PX) this.points.push(point);
    this.at = point;
    this.canvas.paint();
  }

  hover(point) {
    if (!this.points.length) return;
    this.at = point;
    this.canvas.paint();
  }

  up(point, moved) {
    if (!moved) return;
    if (this.kind === "cut") this.add(point);
    else this.finish();
  }

  add(point) {
    this.points.push(point);
    this.canvas.paint();
    if (this.kind === "cut" && this.points.length === 2) this.finish();
  }

  finish() {
    const points = this.points;
    this.points = [];
    this.canvas.paint();
    this.done(points);
  }

  /* Use a key; false where it is not one of the tool's. */
  key(name) {
    const moves = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
    const plain = name.replace("shift+", "");
    if (plain in moves) {
      this.moveCross(moves[plain], name.startsWith("shift+") ? 2 : STEP_PX);
    } else if (name === "enter") this.add(this.cross());
    else if (name === "shift+enter" && this.kind === "draw") this.finish();
    else if (name === "backspace") {
      this.points.pop();
      this.canvas.paint();
    } else return false;
    return true;
  }

  cross() {
    this.at = this.at || this.canvas.toImage(this.canvas.width / 2, this.canvas.height / 2);
    return this.at;
  }

  moveCross([dx, dy], by) {
    const [x, y] = this.cross();
    this.at = [x + (dx * by) / this.canvas.view.scale, y + (dy * by) / this.canvas.view.scale];
    this.canvas.paint();
  }

  drawOver(context) {
    const shown = this.points.map(([x, y]) => this.canvas.toScreen(x, y));
    context.beginPath();
    shown.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (this.at) {
      const [x, y] = this.canvas.toScreen(...this.at);
      if (shown.length) context.lineTo(x, y);
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
    }
    for (const [colour, width] of [
      ["#fff", 4],
      [INK, 1.8],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  }
}

/* The tool in use of a field. `objects()` returns its FieldObjects, `label()` the label for a new
   outline, `onChange` is called when the tool changed. */
export class Tools {
  constructor(canvas, { objects, label, onChange }) {
    Object.assign(this, { canvas, objects, label, onChange });
    this.name = "";
    this.points = null;
    this.first = null;
  }

  /* Take a tool up, or put it down: "draw", "cut", "join" or "". */
  take(name) {
    this.name = this.name === name ? "" : name;
    this.first = this.name === "join" ? this.canvas.selected : null;
    this.points = ["draw", "cut"].includes(this.name)
      ? new PointTool(this.name, this.canvas, (points) => this[this.name](points))
      : null;
    this.canvas.paint();
    this.onChange();
  }

  draw(points) {
    const ring = points.flat();
    if (ring.length < 6 || Math.abs(signedArea(ring)) < LEAST_AREA_PX) {
      notify("An outline needs at least three points around an area. Draw around the whole cell.");
      return;
    }
    const rounded = ring.map((value) => Math.round(value * 100) / 100);
    step({
      kind: "draw",
      field: this.objects().field.id,
      polygon_xy: rounded,
      label: this.label(),
    });
  }

  cut([a, b]) {
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
    const box = [
      Math.min(a[0], b[0]),
      Math.min(a[1], b[1]),
      Math.max(a[0], b[0]),
      Math.max(a[1], b[1]),
    ];
    const crossed = this.objects()
      .outlines.near(box)
      .filter((one) => cut(one.rings[0], a, b));
    const chosen =
      crossed.find((one) => one.id === this.canvas.selected) ||
      crossed.sort((one, other) => one.area - other.area)[0];
    if (!length || !chosen) {
      notify(
        "The line cuts no outline in two. Draw it from one side of a cell to beyond the other.",
      );
      return;
    }
    step({
      kind: "cut",
      object: chosen.id,
      line_xy: [...a, ...b].map((value) => Math.round(value * 100) / 100),
    });
  }

  /* Join the first chosen cell with another. */
  joinWith(id) {
    if (id === null) return;
    if (this.first === null || this.first === id) {
      this.first = id;
      this.onChange();
      return;
    }
    step({ kind: "join", objects: [this.first, id] });
    this.take("");
  }

  key(name) {
    return this.points ? this.points.key(name) : false;
  }

  drawOver(context) {
    this.points?.drawOver(context);
  }
}
