/* Scale: the two ends of a length that is known, on the photograph, with a magnifier. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, labelled, num, numberInput, put, select } from "../dom.js";
import { FieldCanvas } from "../field_canvas.js";
import { chosenField, FieldPicker, noFields, rememberField } from "../field_picker.js";
import { fieldImage } from "../images.js";
import { bindScreen } from "../keys.js";
import { notify } from "../notify.js";
import { watchPointer } from "../pan_zoom.js";
import { drawEnds, drawLens, GRIP_PX, LENS_PX } from "../scale_drawing.js";

const SOURCES = {
  given: "given",
  file: "the file's metadata",
  bar: "the scale bar found here",
  strip: "the text strip",
  measured: "measured by a person",
  copied: "copied from another field",
  cells: "the red cells' size",
};
const ARROWS = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

export async function open(root, { id }) {
  const fields = await app.fields();
  if (!fields.length) {
    put(root, noFields("Scale"));
    return undefined;
  }
  const screen = new ScaleScreen(root, fields);
  await screen.load(chosenField(fields, id).id);
  return () => screen.close();
}

class ScaleScreen {
  constructor(root, fields) {
    Object.assign(this, { ends: null, active: 0, ended: new AbortController() });
    this.picker = new FieldPicker(fields, (id) => this.load(id));
    this.canvas = new FieldCanvas({
      stylesOf: () => [],
      drawOver: (context) => this.ends && drawEnds(context, this.canvas, this.ends, this.active),
      label: "Photograph with the two ends",
    });
    this.panel = h("section", { class: "panel", "aria-label": "Scale" });
    this.lens = h("canvas", {
      width: LENS_PX * 2,
      height: LENS_PX * 2,
      class: "lens",
      "aria-hidden": "true",
    });
    root.classList.add("full");
    root.append(this.canvas.element, this.panel);
    watchPointer(this.canvas, { onClick: () => {}, tool: () => this });
    bindScreen([
      {
        keys: Object.keys(ARROWS),
        does: "move the end by one pixel",
        run: (event, name) => this.nudge(ARROWS[name], 1),
      },
      {
        keys: Object.keys(ARROWS).map((name) => `shift+${name}`),
        does: "move the end by ten pixels",
        run: (event, name) => this.nudge(ARROWS[name.slice(6)], 10),
      },
      { keys: ["e"], does: "the other end", run: () => this.choose(1 - this.active) },
      ...this.picker.bindings(this.canvas),
    ]);
  }

  close() {
    this.ended.abort();
    this.canvas.close();
  }

  async load(id) {
    this.field = this.picker.fields.find((field) => field.id === id);
    this.picker.show(id);
    rememberField(id);
    this.scale = await call(at(`fields/${this.field.id}/scale`), { signal: this.ended.signal });
    const { width, height } = this.field;
    [this.ends, this.length] = startOf(this.scale, width, height);
    history.replaceState(null, "", `#/scale/${this.field.id}`);
    this.image = null;
    this.canvas.show({ size: [width, height], outlines: null });
    this.build();
    const image = await fieldImage(this.field.id);
    this.image = image;
    this.canvas.setImage(image);
    this.drawLens();
  }

  /* The pointer moves the nearer end if it is near, else the photograph's end is put there. */
  down(point) {
    const far = (end) => Math.hypot(end[0] - point[0], end[1] - point[1]) * this.canvas.view.scale;
    const nearest = far(this.ends[0]) <= far(this.ends[1]) ? 0 : 1;
    this.grip = far(this.ends[nearest]) <= GRIP_PX;
    if (!this.grip) return;
    this.choose(nearest);
    this.offset = [point[0] - this.ends[nearest][0], point[1] - this.ends[nearest][1]];
  }

  move(point) {
    if (this.grip) this.put(point[0] - this.offset[0], point[1] - this.offset[1]);
  }

  up(point, moved) {
    // A click elsewhere brings the chosen end there.
    if (!this.grip && !moved) this.put(...point);
  }

  put(x, y) {
    const { width, height } = this.field;
    this.ends[this.active] = [Math.max(0, Math.min(width, x)), Math.max(0, Math.min(height, y))];
    this.show();
  }

  nudge([dx, dy], by) {
    const [x, y] = this.ends[this.active];
    this.put(x + dx * by, y + dy * by);
  }

  choose(end) {
    this.active = end;
    this.show();
  }

  get distance() {
    const [[x0, y0], [x1, y1]] = this.ends;
    return Math.hypot(x1 - x0, y1 - y0);
  }

  build() {
    const { scale } = this;
    this.inputs = [0, 1].flatMap((end) =>
      [0, 1].map((axis) =>
        numberInput({
          step: 0.1,
          "aria-label": `${end ? "Second" : "First"} end, ${"xy"[axis]}`,
          onfocus: () => {
            if (this.active !== end) this.choose(end);
          },
          oninput: (event) => {
            this.ends[end][axis] = Number(event.target.value);
            this.show(event.target);
          },
        }),
      ),
    );
    this.lengthInput = numberInput({
      value: this.length ?? "",
      min: 0,
      id: "length",
      oninput: () => this.show(),
    });
    this.result = h("p", { class: "result", role: "status" });
    this.ofEnds = [0, 1].map((end) =>
      h("button", {
        "aria-pressed": "false",
        text: end ? "Second end" : "First end",
        onclick: () => this.choose(end),
      }),
    );
    const same = scale.same_bar.length;
    this.applyTo = select(
      [
        ["this", "this field"],
        ...(same ? [["same_bar", `this, and ${count(same, "field")} with the same bar`]] : []),
        ["all", "all fields"],
      ],
      "this",
      { id: "apply" },
    );
    put(
      this.panel,
      h("h1", { class: "unseen", text: "Scale" }),
      this.picker.element,
      this.stateBox(),
      h("h2", { text: "Ends" }),
      h("p", { class: "note", text: foundText(scale) }),
      h("div", { class: "row tools" }, this.ofEnds),
      this.lens,
      h(
        "div",
        { class: "ends" },
        ["", "x", "y"].map((text) => h("span", { class: "over", text })),
        [0, 1].map((end) => [
          h("span", { text: end ? "Second" : "First" }),
          this.inputs[2 * end],
          this.inputs[2 * end + 1],
        ]),
      ),
      labelled(
        "Length between the ends, \u00b5m",
        this.lengthInput,
        scale.bar && scale.bar.length_um === null ? "A bar was found, but not its number." : "",
      ),
      this.result,
      labelled(
        "Applies to",
        this.applyTo,
        "On other fields it is not confirmed until somebody looked.",
      ),
      h(
        "div",
        { class: "row" },
        h("button", { class: "main", text: "Store the scale", onclick: () => this.store() }),
      ),
    );
    this.show();
  }

  stateBox() {
    const { scale } = this;
    const known =
      scale.um_per_px === null
        ? "No scale is known."
        : `${num(scale.um_per_px, 4)} \u00b5m per pixel, from ${SOURCES[scale.source] || scale.source}.`;
    const cells = scale.rbc_diameter_um
      ? ` Red cells are then ${num(scale.rbc_diameter_um, 1)} \u00b5m wide.`
      : "";
    const box = h(
      "div",
      { class: `box ${scale.confirmed ? "good" : "warn"}` },
      h("p", { text: `${known}${cells}` }),
      h("p", {}, h("strong", { text: scale.confirmed ? "Confirmed." : "Not confirmed." })),
      scale.warning ? h("p", { class: "problem", text: scale.warning }) : null,
    );
    if (!scale.confirmed && scale.um_per_px !== null) {
      box.append(h("button", { text: "Confirm", onclick: () => this.confirm() }));
    }
    return box;
  }

  /* Draw all again after a change; `typed` is the input that the person types in. */
  show(typed = null) {
    this.inputs.forEach((input, i) => {
      if (input !== typed) input.value = this.ends[i >> 1][i & 1].toFixed(1);
    });
    this.ofEnds.forEach((button, end) => button.setAttribute("aria-pressed", end === this.active));
    const length = Number(this.lengthInput.value);
    const valid = length > 0 && this.distance > 0.5;
    this.result.textContent = `${num(this.distance, 1)} px${valid ? ` = ${num(length, 2)} \u00b5m: ${num(length / this.distance, 5)} \u00b5m per pixel` : ". Give the length in \u00b5m."}`;
    this.canvas.paint();
    this.drawLens();
  }

  drawLens() {
    drawLens(this.lens, this.image, this.ends[this.active]);
  }

  async store() {
    if (!app.reviewer) return app.tell("who");
    const [[x0, y0], [x1, y1]] = this.ends;
    const body = {
      x0,
      y0,
      x1,
      y1,
      length_um: this.lengthInput.value === "" ? null : Number(this.lengthInput.value),
      apply_to: this.applyTo.value,
      reviewer: app.reviewer,
    };
    try {
      const answer = await call(at(`fields/${this.field.id}/scale`), { method: "PUT", body });
      notify(`Stored for ${count(answer.fields.length, "field")}.`);
    } catch (error) {
      notify(error.message, { problem: true });
      return undefined;
    }
    await this.refresh();
    return undefined;
  }

  async confirm() {
    if (!app.reviewer) return app.tell("who");
    await call(at("scale/confirm"), {
      method: "POST",
      body: { fields: [this.field.id], reviewer: app.reviewer },
    });
    await this.refresh();
    return undefined;
  }

  /* Ask again what is stored; the ends stay where they are. */
  async refresh() {
    this.length = this.lengthInput.value === "" ? null : Number(this.lengthInput.value);
    app.fieldList = null;
    this.scale = await call(at(`fields/${this.field.id}/scale`), { signal: this.ended.signal });
    this.build();
  }
}

/* What was found on the photograph, and what to do with the ends. */
function foundText({ line, bar, strip_rows: strip }) {
  if (line) return "The ends that somebody measured.";
  if (bar) return "The scale bar that was found. Check both ends.";
  const where = strip ? ", though a strip of text was found" : "";
  return `No scale bar was found${where}. Put the ends on something of known length.`;
}

/* The ends and the length to begin with: what a person measured, else the bar that was found. */
function startOf({ line, bar }, width, height) {
  if (line) return [[line.slice(0, 2), line.slice(2, 4)], line[4]];
  if (bar)
    return [
      [
        [bar.x0, bar.y0],
        [bar.x1, bar.y1],
      ],
      bar.length_um,
    ];
  return [
    [
      [width * 0.35, height / 2],
      [width * 0.65, height / 2],
    ],
    null,
  ];
}
