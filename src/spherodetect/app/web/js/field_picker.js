/* The choice of a field with a step back and forth, and the keys of a photograph. */

import { h, select } from "./dom.js";
import { notify } from "./notify.js";

export class FieldPicker {
  /* `go(id)` shows another field. */
  constructor(fields, go) {
    Object.assign(this, { fields, go });
    this.list = select(
      fields.map((one) => [one.id, one.name]),
      "",
      { "aria-label": "Field", onchange: () => go(Number(this.list.value)) },
    );
    this.back = h("button", {
      text: "\u2190",
      "aria-label": "Field before",
      title: "key [",
      onclick: () => this.turn(-1),
    });
    this.forth = h("button", {
      text: "\u2192",
      "aria-label": "Next field",
      title: "key ]",
      onclick: () => this.turn(1),
    });
    this.element = h("div", { class: "turn" }, this.back, this.list, this.forth);
  }

  /* Mark the field that is shown. */
  show(id) {
    this.list.value = id;
    this.place = this.fields.findIndex((field) => field.id === id);
    this.back.disabled = this.place <= 0;
    this.forth.disabled = this.place >= this.fields.length - 1;
  }

  turn(by) {
    const next = this.fields[this.place + by];
    if (next) this.go(next.id);
    else notify(by > 0 ? "This is the last field." : "This is the first field.");
  }

  /* Keys that step through the fields and zoom a canvas. */
  bindings(canvas) {
    return [
      { keys: ["["], does: "field before", run: () => this.turn(-1) },
      { keys: ["]"], does: "next field", run: () => this.turn(1) },
      { keys: ["+", "="], does: "zoom in", run: () => canvas.zoom(1.25) },
      { keys: ["-"], does: "zoom out", run: () => canvas.zoom(0.8) },
      { keys: ["f"], does: "show the whole field", run: () => canvas.fit() },
    ];
  }
}

/* The field of an id, else the one shown last, else the first. */
export function chosenField(fields, id) {
  const wanted = [Number(id), Number(sessionStorage.getItem("spherodetect field"))];
  for (const one of wanted) {
    const field = fields.find((candidate) => candidate.id === one);
    if (field) return field;
  }
  return fields[0];
}

/* Show the same field on the next screen. */
export function rememberField(id) {
  sessionStorage.setItem("spherodetect field", id);
}

/* What a screen of photographs shows in a project that has none. */
export function noFields(title) {
  return [
    h("h1", { text: title }),
    h("p", {
      data: { empty: "" },
      text: "The project has no photograph yet. Add some on the screen Patients.",
    }),
    h("a", { class: "button", href: "#/patients", text: "Patients" }),
  ];
}
