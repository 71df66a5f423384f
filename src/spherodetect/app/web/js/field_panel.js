/* The panel beside a field: which field, labels, layers, tools and the chosen cell. */

import { app } from "./app.js";
import { count, h, num, put } from "./dom.js";
import { disagrees } from "./field_objects.js";
import { LabelBar } from "./label_bar.js";
import { markOf } from "./palette.js";

const LAYERS = [
  ["outlines", "Outlines"],
  ["model", "Model"],
  ["human", "Human"],
  ["disagreement", "Disagreement"],
];
const TOOLS = [
  ["draw", "Draw", "d"],
  ["cut", "Cut", "c"],
  ["join", "Join", "j"],
];
const HINTS = {
  draw: "Draw around a cell with the pointer, or put points: arrows move the cross, Enter puts a point, Shift+Enter closes.",
  cut: "Draw a line across a cell, or put two points with Enter.",
  join: "Click the two outlines that are one cell, or choose each and press Enter.",
};

export class FieldPanel {
  constructor(screen) {
    this.screen = screen;
    this.layers = { outlines: true, model: true, human: true, disagreement: false };
    this.goOn = false;
    this.labels = new LabelBar({ give: (label) => this.choose(label) });
    this.where = h("div", { class: "where" });
    this.cell = h("div", { class: "cell" });
    this.hint = h("p", { class: "note", role: "status" });
    this.tools = h("div", { class: "row tools", role: "group", "aria-label": "Outline" });
    this.element = h(
      "section",
      { class: "panel", "aria-label": "Field" },
      h("h1", { class: "unseen", text: "Field" }),
      this.where,
      this.labels.element,
      this.options(),
      this.cell,
      h("h2", { text: "Outline" }),
      this.tools,
      this.hint,
      h("h2", { text: "Layers" }),
      this.layerBoxes(),
    );
    this.buildTools();
  }

  /* Label the chosen cell. Where a click labels, the button also says with what. */
  choose(label) {
    const { screen } = this;
    if (screen.brush !== undefined) {
      screen.brush = label;
      this.labels.mark(label);
      if (!screen.selected) return;
    }
    screen.give(label);
  }

  options() {
    const brush = h("input", {
      type: "checkbox",
      onchange: () => {
        this.screen.brush = brush.checked ? (app.labels[0]?.id ?? null) : undefined;
        this.labels.mark(this.screen.brush);
      },
    });
    const goOn = h("input", {
      type: "checkbox",
      onchange: () => {
        this.goOn = goOn.checked;
      },
    });
    return h(
      "div",
      { class: "options" },
      h("label", { class: "check" }, brush, "A click gives the marked label"),
      h("label", { class: "check" }, goOn, "Then go to the next doubtful cell"),
    );
  }

  layerBoxes() {
    return h(
      "div",
      { class: "layers" },
      LAYERS.map(([name, title]) => {
        const box = h("input", {
          type: "checkbox",
          checked: this.layers[name],
          onchange: () => {
            this.layers[name] = box.checked;
            this.screen.canvas.paint();
          },
        });
        return h("label", { class: "check" }, box, title);
      }),
      h(
        "p",
        { class: "note" },
        "Filled marks: people. Hollow marks: a model. Hold ",
        h("kbd", { text: "Space" }),
        " to hide all.",
      ),
    );
  }

  buildTools() {
    const { screen } = this;
    put(
      this.tools,
      TOOLS.map(([name, title, key]) =>
        h(
          "button",
          { data: { tool: name }, "aria-pressed": "false", onclick: () => screen.tools.take(name) },
          title,
          h("kbd", { text: key.toUpperCase() }),
        ),
      ),
      h("button", { onclick: () => screen.remove() }, "Delete"),
    );
  }

  showTool() {
    const { name, first } = this.screen.tools;
    for (const button of this.tools.children) {
      if (button.dataset.tool) button.setAttribute("aria-pressed", button.dataset.tool === name);
    }
    this.hint.textContent =
      name === "join" && first !== null ? "Now click the other outline." : HINTS[name] || "";
    this.screen.canvas.element.dataset.tool = name;
  }

  showField() {
    const { picker, field } = this.screen;
    put(
      this.where,
      picker.element,
      h(
        "p",
        { class: "note" },
        `${picker.place + 1} of ${picker.fields.length}, of ${field.patient || "\u2013"}. `,
        h("span", { class: "counts" }),
      ),
    );
    if (field.accepted === false)
      this.where.append(h("p", { class: "problem", text: `Not counted: ${field.reason}` }));
    if (field.n_queued) {
      this.where.append(
        h(
          "p",
          {},
          h("a", {
            href: `#/patients/queue?field=${field.id}`,
            text: `${count(field.n_queued, "outline")} in the queue`,
          }),
        ),
      );
    }
    this.showCounts();
    this.showCell();
  }

  showCounts() {
    const records = this.screen.objects.visible;
    const named = records.filter((one) => one.label !== null).length;
    this.labels.count(records.map((one) => app.shown(one)));
    const text = this.where.querySelector(".counts");
    if (text) text.textContent = `${count(records.length, "cell")}, ${named} labelled.`;
  }

  /* What is known of the chosen cell, in one line for screen readers. */
  sentence(record) {
    if (!record) return "an outline that is not stored yet";
    const parts = [`Cell ${record.id}`, app.labelName(record.label)];
    if (record.model) parts.push(`model says ${record.model.name}, ${num(record.model.p, 2)}`);
    return parts.join(", ");
  }

  showCell() {
    const { screen } = this,
      record = screen.objects ? screen.selected : null;
    if (!record) {
      put(
        this.cell,
        h("h2", { text: "Cell" }),
        h("p", { class: "note", text: "Click a cell, or press Tab for the most doubtful one." }),
      );
      return;
    }
    const enclosing = screen.enclosing();
    const wrong = screen.wrongLabel();
    put(
      this.cell,
      h("h2", { text: `Cell ${record.id}` }),
      this.facts(record),
      enclosing.length
        ? h(
            "div",
            { class: "box warn" },
            h("p", { text: `${count(enclosing.length, "larger outline")} around this cell.` }),
            h(
              "button",
              { onclick: () => screen.markEnclosing() },
              wrong ? `Mark as ${wrong.name}` : "Delete",
              h("kbd", { text: "W" }),
            ),
          )
        : null,
    );
  }

  facts(record) {
    const label = app.label(record.label);
    const person = label
      ? [markOf(app.look(label.id)), ` ${label.name}`, record.by ? ` (${record.by})` : ""]
      : ["no label"];
    const others = Object.entries(record.labels || {})
      .filter(([who, id]) => who !== record.by && id !== null)
      .map(([who, id]) => `${who}: ${app.labelName(id)}`)
      .join(", ");
    const rows = [["Label", person]];
    if (others) rows.push(["Others", [others]]);
    if (record.model) rows.push(["Model", [`${record.model.name}, ${num(record.model.p, 2)}`]]);
    if (record.classifier)
      rows.push([
        "Classifier",
        [`${app.labelName(record.classifier.label)}, ${num(record.classifier.p, 2)}`],
      ]);
    rows.push([
      "Size",
      [
        record.diameter_um
          ? `${num(record.diameter_um, 1)} \u00b5m`
          : `${num(2 * Math.sqrt(record.area_px / Math.PI), 0)} px`,
      ],
    ]);
    if (record.flags?.length) rows.push(["Remarks", [record.flags.join(", ")]]);
    return h(
      "dl",
      { class: `facts${disagrees(record) ? " disagrees" : ""}` },
      rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", {}, value)]),
    );
  }
}
