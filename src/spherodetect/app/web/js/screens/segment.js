/* Segment: find the outlines with a method of choice; try on one field, then run on many. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, labelled, num, numberInput, put, select } from "../dom.js";
import { FieldCanvas } from "../field_canvas.js";
import { chosenField, FieldPicker, noFields, rememberField } from "../field_picker.js";
import { fieldImage } from "../images.js";
import { runJob } from "../jobs.js";
import { bindScreen } from "../keys.js";
import { notify } from "../notify.js";
import { makeOutline, Outlines } from "../outlines.js";
import { watchPointer } from "../pan_zoom.js";

const STYLE = { colour: "#0048ba", width: 1.6, dash: [] };
const KEPT = "spherodetect segment";

export async function open(root, { id }) {
  const [fields, { methods }] = await Promise.all([app.fields(), call(at("segment/methods"))]);
  if (!fields.length) {
    put(root, noFields("Segment"));
    return undefined;
  }
  const screen = new SegmentScreen(root, fields, methods);
  screen.load(chosenField(fields, id).id);
  return () => screen.close();
}

class SegmentScreen {
  constructor(root, fields, methods) {
    Object.assign(this, { fields, methods, ended: new AbortController() });
    this.picker = new FieldPicker(fields, (id) => this.load(id));
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
    this.values = kept.values || {};
    const usable = methods.filter((one) => one.available);
    this.method = usable.find((one) => one.id === kept.method) || usable[0];
    this.canvas = new FieldCanvas({
      stylesOf: () => [STYLE],
      label: "Outlines found on this field",
    });
    this.form = h("div", { class: "params" });
    this.said = h("p", { class: "note", role: "status" });
    this.panel = h("section", { class: "panel", "aria-label": "Segment" });
    root.classList.add("full");
    root.append(this.canvas.element, this.panel);
    watchPointer(this.canvas, { onClick: () => {} });
    this.build();
    bindScreen([
      { keys: ["p"], does: "preview on this field", run: () => this.preview() },
      ...this.picker.bindings(this.canvas),
      {
        keys: ["space"],
        does: "show and hide the outlines",
        run: () => this.canvas.hide(!this.canvas.hidden),
      },
    ]);
  }

  close() {
    this.ended.abort();
    this.canvas.close();
  }

  async load(id) {
    this.field = this.fields.find((field) => field.id === id);
    this.picker.show(id);
    rememberField(id);
    history.replaceState(null, "", `#/segment/${this.field.id}`);
    this.said.textContent = "";
    this.canvas.show({ size: [this.field.width, this.field.height], outlines: new Outlines([]) });
    const { field } = this;
    this.showStored();
    const image = await fieldImage(field.id);
    if (field === this.field) this.canvas.setImage(image);
  }

  /* The outlines that the field has; a preview takes their place. */
  async showStored() {
    const { field } = this;
    const { objects } = await call(at(`fields/${field.id}/objects`), {
      signal: this.ended.signal,
    });
    if (field !== this.field || this.said.textContent) return;
    this.showOutlines(objects);
  }

  showOutlines(objects) {
    this.canvas.outlines = new Outlines(
      objects.map((one, i) => makeOutline(i, [one.polygon_xy])),
    );
    this.canvas.paint();
  }

  build() {
    const radios = h(
      "fieldset",
      {},
      h("legend", { text: "Method" }),
      this.methods.map((method) =>
        h(
          "label",
          { class: `check${method.available ? "" : " off"}` },
          h("input", {
            type: "radio",
            name: "method",
            checked: method === this.method,
            disabled: !method.available,
            onchange: () => {
              this.method = method;
              this.buildForm();
            },
          }),
          h(
            "span",
            {},
            method.name,
            h("small", { text: method.available ? method.cost || "" : method.why }),
          ),
        ),
      ),
    );
    const open = this.fields.filter((field) => !field.method);
    const choices = [
      ["all", `all ${count(this.fields.length, "field")}`],
      ...(open.length && open.length < this.fields.length
        ? [["open", `the ${count(open.length, "field")} without outlines`]]
        : []),
      ["this", "this field"],
    ];
    this.where = select(choices, "all", { "aria-label": "Run on" });
    put(
      this.panel,
      h("h1", { class: "unseen", text: "Segment" }),
      this.picker.element,
      radios,
      this.form,
      h("p", {
        class: "note",
        text: "A new run never loses labels: they go over to the new outlines where these overlap; what splits, merges or is gone waits in the queue.",
      }),
      h(
        "div",
        { class: "go" },
        this.said,
        h(
          "div",
          { class: "row middle" },
          h("button", { onclick: () => this.preview() }, "Preview", h("kbd", { text: "P" })),
          this.where,
          h("button", { class: "main", text: "Run", onclick: () => this.run() }),
        ),
      ),
    );
    this.buildForm();
  }

  /* The form of the method's parameters; empty means automatic. */
  buildForm() {
    const given = (this.values[this.method?.id] ||= {});
    put(
      this.form,
      (this.method?.params || []).map((param) => {
        const keep = (value) => {
          given[param.id] = value;
          sessionStorage.setItem(
            KEPT,
            JSON.stringify({ method: this.method.id, values: this.values }),
          );
        };
        const now = given[param.id] ?? param.default;
        const unit = param.unit ? `, ${param.unit}` : "";
        if (param.type === "choice") {
          return labelled(
            param.name,
            select(param.choices, now, { onchange: (event) => keep(event.target.value) }),
            param.help,
          );
        }
        return labelled(
          `${param.name}${unit}`,
          numberInput({
            value: now ?? "",
            min: param.least,
            max: param.most,
            step: param.type === "whole" ? 1 : "any",
            placeholder: "automatic",
            oninput: (event) => keep(event.target.value === "" ? null : Number(event.target.value)),
          }),
          param.help,
        );
      }),
    );
  }

  params() {
    const given = this.values[this.method.id];
    return Object.fromEntries(
      this.method.params
        .map((param) => [param.id, given[param.id] ?? param.default])
        .filter(([, value]) => value !== null && value !== undefined),
    );
  }

  async preview() {
    const { field, method } = this;
    this.said.textContent = `${method.name} looks at this field.`;
    const result = await this.job("segment/preview", {
      field: field.id,
      method: method.id,
      params: this.params(),
    });
    if (!result || field !== this.field) {
      this.said.textContent = "";
      return;
    }
    this.showOutlines(result.objects);
    this.said.textContent = `${count(result.n, "outline")} in ${num(result.seconds, 1)} s. Nothing is stored yet.`;
  }

  async run() {
    if (!app.reviewer) return app.tell("who");
    const chosen = {
      all: () => "all",
      open: () => this.fields.filter((field) => !field.method).map((field) => field.id),
      this: () => [this.field.id],
    };
    const result = await this.job("segment/runs", {
      method: this.method.id,
      params: this.params(),
      fields: chosen[this.where.value](),
      reviewer: app.reviewer,
    });
    app.fieldList = null;
    if (!result) return undefined;
    result.problems.forEach((text) => notify(text, { problem: true }));
    this.said.textContent = `${count(result.n_objects, "outline")} on ${count(result.n_fields, "field")}. ${num(result.n_attached, 0)} were known before and keep their labels, ${num(result.n_queued, 0)} wait in the queue.`;
    await this.reload();
    notify(this.said.textContent, {
      action: [
        "Field",
        () => {
          location.hash = `#/field/${this.field.id}`;
        },
      ],
    });
    return undefined;
  }

  /* Show what a run stored. */
  async reload() {
    const said = this.said.textContent;
    this.said.textContent = "";
    await this.showStored();
    this.said.textContent = said;
  }

  async job(path, body) {
    try {
      return await runJob(path, body, {
        signal: path.endsWith("preview") ? this.ended.signal : undefined,
      });
    } catch (error) {
      if (error.name === "AbortError") return null;
      notify(error.message, { problem: true });
      return null;
    }
  }
}
