/* The queue: labelled outlines that a new detection split, merged or did not find. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, put, select } from "../dom.js";
import { FieldCanvas } from "../field_canvas.js";
import { fieldImage } from "../images.js";
import { bindScreen } from "../keys.js";
import { makeOutline, Outlines } from "../outlines.js";
import { step } from "../steps.js";

const WHAT = {
  split: (n) => `One labelled outline became ${n}.`,
  merge: () => "Several labelled outlines became one.",
  changed: () => "The new outline overlaps too little with the old one.",
  gone: () => "The new detection did not find this cell.",
};
const OLD = { colour: "#d55e00", width: 2, dash: [6, 4] },
  NEW = { colour: "#0048ba", width: 2, dash: [] };

export async function openQueue(root, query) {
  const screen = new Queue(root, query);
  await screen.load();
  return () => screen.close();
}

class Queue {
  constructor(root, query) {
    Object.assign(this, { root, query, place: 0, ended: new AbortController() });
    this.canvas = new FieldCanvas({
      stylesOf: (one) => [this.old.has(one.id) ? OLD : NEW],
      label: "The outlines before and now",
    });
    this.news = [
      app.on("kinds", (kinds) => {
        if (kinds.includes("queue")) this.load();
      }),
    ];
    bindScreen([
      { keys: ["k"], does: "keep the old outline and its label", run: () => this.decide("keep") },
      { keys: ["r"], does: "replace it by the new", run: () => this.decide("replace") },
      { keys: ["arrowright", "]"], does: "next", run: () => this.turn(1) },
      { keys: ["arrowleft", "["], does: "before", run: () => this.turn(-1) },
    ]);
  }

  close() {
    this.ended.abort();
    this.canvas.close();
    this.news.forEach((end) => end());
  }

  async load() {
    const { items } = await call(at("queue", { field: this.query.field }), {
      signal: this.ended.signal,
    });
    const fields = new Map((await app.fields()).map((field) => [field.id, field]));
    this.fields = fields;
    this.items = items.filter(
      (item) =>
        item.open &&
        (!this.query.patient || fields.get(item.field)?.patient === this.query.patient),
    );
    this.place = Math.min(this.place, Math.max(0, this.items.length - 1));
    await this.show();
  }

  turn(by) {
    this.place = Math.max(0, Math.min(this.items.length - 1, this.place + by));
    this.show();
  }

  async show() {
    const item = this.items[this.place];
    if (!item) {
      put(
        this.root,
        h("h1", { text: "Queue" }),
        h("p", { text: "Nothing waits for you." }),
        h("a", { class: "button", href: "#/patients", text: "Patients" }),
      );
      return;
    }
    const field = this.fields.get(item.field);
    this.old = new Set(item.old.map((object) => object.id));
    this.label = select(
      [["", "the old label"], ...app.labels.map((one) => [one.id, one.name])],
      "",
      { "aria-label": "Label of the new outlines" },
    );
    const gone = item.kind === "gone";
    put(
      this.root,
      h("h1", { text: "Queue" }),
      h("p", {
        class: "note",
        text: `${this.place + 1} of ${count(this.items.length, "case")}; ${field?.name || ""}`,
      }),
      h("p", {
        text: `${WHAT[item.kind]?.(item.new.length) || ""} Label: ${item.old.map((one) => app.labelName(one.label)).join(", ")}.`,
      }),
      h("div", { class: "queue-stage" }, this.canvas.element),
      h("p", { class: "note", text: "Dashed orange: before. Solid blue: found now." }),
      h(
        "div",
        { class: "row middle" },
        h(
          "button",
          { onclick: () => this.decide("keep") },
          gone ? "It is there: keep" : "Keep the old",
          h("kbd", { text: "K" }),
        ),
        h(
          "button",
          { onclick: () => this.decide("replace") },
          gone ? "It goes" : "Take the new, with",
          h("kbd", { text: "R" }),
        ),
        gone ? null : this.label,
        h("button", { text: "\u2190", "aria-label": "Before", onclick: () => this.turn(-1) }),
        h("button", { text: "\u2192", "aria-label": "Next", onclick: () => this.turn(1) }),
      ),
    );
    await this.draw(item, field);
  }

  async draw(item, field) {
    const outlines = new Outlines(
      [...item.old, ...item.new].map((one) => makeOutline(one.id, [one.polygon_xy])),
    );
    this.canvas.show({ size: [field.width, field.height], outlines });
    this.canvas.resize();
    const all = outlines.all.map((one) => one.box);
    const box = [0, 1, 2, 3].map((i) => (i < 2 ? Math.min : Math.max)(...all.map((one) => one[i])));
    const side = 3 * Math.max(box[2] - box[0], box[3] - box[1], 20);
    const scale = Math.min(this.canvas.width, this.canvas.height) / side;
    const x = (box[0] + box[2]) / 2,
      y = (box[1] + box[3]) / 2;
    this.canvas.setView({
      scale,
      x: x - this.canvas.width / 2 / scale,
      y: y - this.canvas.height / 2 / scale,
    });
    const image = await fieldImage(field.id);
    if (this.items[this.place] === item) this.canvas.setImage(image);
  }

  decide(action) {
    const item = this.items[this.place];
    if (!item) return;
    const label =
      action === "replace" && this.label.value ? { label: Number(this.label.value) } : {};
    if (!step({ kind: "queue", item: item.id, action, ...label })) return;
    this.items.splice(this.place, 1);
    this.turn(0);
  }
}
