/* The field: a photograph with its outlines; click and key label a cell. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { FieldCanvas } from "../field_canvas.js";
import { FieldObjects } from "../field_objects.js";
import { FieldPanel } from "../field_panel.js";
import { chosenField, FieldPicker, noFields, rememberField } from "../field_picker.js";
import { Tools } from "../field_tools.js";
import { fieldImage } from "../images.js";
import { bindScreen } from "../keys.js";
import { notify, say } from "../notify.js";
import { watchPointer } from "../pan_zoom.js";
import { allWithPending, labelItems, labelObjects, step } from "../steps.js";

const ARROWS = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

export async function open(root, { id, query }) {
  const fields = await app.fields();
  if (!fields.length) {
    root.append(...noFields("Field"));
    return undefined;
  }
  const screen = new FieldScreen(root, fields);
  await screen.load(chosenField(fields, id).id, Number(query.object) || null);
  screen.canvas.over.focus({ preventScroll: true });
  return () => screen.close();
}

class FieldScreen {
  constructor(root, fields) {
    this.picker = new FieldPicker(fields, (id) => this.load(id));
    this.ended = new AbortController();
    this.brush = undefined;
    this.canvas = new FieldCanvas({
      stylesOf: (outline) => this.objects.stylesOf(outline),
      drawOver: (context) => this.tools.drawOver(context),
    });
    this.tools = new Tools(this.canvas, {
      objects: () => this.objects,
      label: () => this.brush ?? null,
      onChange: () => this.panel.showTool(),
    });
    this.panel = new FieldPanel(this);
    root.classList.add("full");
    root.append(this.canvas.element, this.panel.element);
    watchPointer(this.canvas, {
      onClick: (point, event) => this.click(point, event),
      tool: () => this.tools.points,
    });
    this.watch();
    bindScreen(this.bindings());
  }

  close() {
    this.ended.abort();
    this.canvas.close();
    this.news.forEach((end) => end());
  }

  watch() {
    const signal = this.ended.signal;
    document.addEventListener(
      "keyup",
      (event) => {
        if (event.key === " ") this.canvas.hide(false);
      },
      { signal },
    );
    window.addEventListener("blur", () => this.canvas.hide(false), { signal });
    this.news = [
      app.on("labelled", (items) => this.changed({ ids: this.objects.relabel(items), boxes: [] })),
      app.on("objects", (objects) => {
        this.objects.showPending();
        this.changed(this.objects.merge(objects), true);
      }),
      app.on("pending", (change) => this.pending(change)),
      app.on("undone", (one) => this.follow(one.fields)),
      app.on("fields", (ids) => {
        if (ids.includes(this.field.id)) this.load(this.field.id);
      }),
      app.on("reset", () => this.load(this.field.id)),
      app.on("labels", () => {
        this.objects.forgetStyles();
        this.panel.labels.build();
        bindScreen(this.bindings());
        this.canvas.paint();
      }),
    ];
  }

  /* Show a field, and a cell of it. */
  async load(id, object = null) {
    const mine = (this.loading = (this.loading || 0) + 1);
    const answer = await call(at(`fields/${id}/objects`), { signal: this.ended.signal });
    if (mine !== this.loading) return;
    const same = this.field?.id === id;
    this.field = answer.field;
    this.objects = new FieldObjects(answer.field, allWithPending(answer.objects));
    this.objects.layers = this.panel.layers;
    const size = [this.field.width, this.field.height];
    if (same) Object.assign(this.canvas, { outlines: this.objects.outlines, size });
    else this.canvas.show({ size, outlines: this.objects.outlines });
    this.canvas.over.setAttribute(
      "aria-label",
      `Field ${this.field.name}, ${this.objects.records.size} cells`,
    );
    rememberField(id);
    this.picker.show(id);
    history.replaceState(null, "", `#/field/${id}`);
    this.panel.showField();
    this.select(object ?? (same ? this.canvas.selected : null));
    this.loadImage(id, mine);
  }

  async loadImage(id, mine) {
    const image = await fieldImage(id);
    if (mine !== this.loading) return;
    this.canvas.setImage(image);
    this.fetchAhead();
  }

  fetchAhead() {
    const next = this.picker.fields[this.picker.place + 1];
    if (next) fieldImage(next.id).catch(() => {});
  }

  get selected() {
    return this.objects.records.get(this.canvas.selected) || null;
  }

  select(id, { reveal = true } = {}) {
    const outline = this.objects.outlines.byId.get(id);
    this.canvas.select(outline ? id : null);
    if (outline && reveal) this.canvas.reveal(outline);
    this.panel.showCell();
    if (outline) say(this.panel.sentence(this.selected));
  }

  click([x, y], event) {
    const [smallest] = this.objects.outlines
      .under(x, y)
      .filter((one) => this.objects.records.has(one.id));
    if (this.tools.name === "join") {
      if (smallest) this.tools.joinWith(smallest.id);
      return;
    }
    this.select(smallest ? smallest.id : null, { reveal: false });
    if (smallest && this.brush !== undefined && !event.shiftKey) this.give(this.brush);
  }

  /* Label the chosen cell. */
  give(label) {
    const record = this.selected;
    if (!record) {
      notify("Choose a cell first: click it, or move to it with the arrow keys.");
      return;
    }
    const seen = this.objects.blind ? "blind" : "open";
    if (labelObjects([record], label, { source: "field", seen }) && this.panel.goOn)
      this.nextDoubtful(1);
  }

  /* The larger outlines around the chosen cell that are not marked as wrong yet. */
  enclosing() {
    const outline = this.objects.outlines.byId.get(this.canvas.selected);
    const wrong = this.wrongLabel();
    if (!outline) return [];
    return this.objects.outlines
      .enclosing(outline)
      .map((one) => this.objects.records.get(one.id))
      .filter((record) => record && !(wrong && record.label === wrong.id));
  }

  wrongLabel() {
    return app.labels.find((label) => label.meaning === "ignore") || null;
  }

  /* Mark the enclosing outlines as wrong: the label of that meaning, or delete them. */
  markEnclosing() {
    const records = this.enclosing(),
      wrong = this.wrongLabel();
    if (!records.length) return;
    if (wrong)
      labelItems(
        records.map((object) => ({ object, label: wrong.id })),
        { source: "field" },
      );
    else step({ kind: "delete", objects: records.map((record) => record.id) });
  }

  remove() {
    const record = this.selected;
    if (record) step({ kind: "delete", objects: [record.id] });
  }

  /* Choose the next or the last doubtful cell. */
  nextDoubtful(by) {
    const doubtful = this.objects.doubtful();
    if (!doubtful.length) {
      notify("No doubtful cell without a label is left here. Key ] shows the next field.");
      return;
    }
    const now = doubtful.findIndex((one) => one.id === this.canvas.selected);
    this.select(
      doubtful[
        (now < 0 ? (by > 0 ? 0 : doubtful.length - 1) : now + by + doubtful.length) %
          doubtful.length
      ].id,
    );
  }

  step(name) {
    const from = this.objects.outlines.byId.get(this.canvas.selected);
    const [x, y] = this.canvas.toImage(this.canvas.width / 2, this.canvas.height / 2);
    const next = from ? this.objects.outlines.next(from, ARROWS[name]) : this.nearest(x, y);
    if (next) this.select(next.id);
  }

  nearest(x, y) {
    const far = (one) => (one.x - x) ** 2 + (one.y - y) ** 2;
    return this.objects.outlines.all.reduce(
      (best, one) => (!best || far(one) < far(best) ? one : best),
      null,
    );
  }

  /* Draw what changed again. */
  changed({ ids, boxes }, fromServer = false) {
    if (!ids.length && !boxes.length && !fromServer) return;
    if (this.canvas.selected !== null && !this.objects.outlines.byId.has(this.canvas.selected))
      this.canvas.selected = null;
    this.canvas.repaint(ids, boxes);
    this.panel.showCounts();
    this.panel.showCell();
  }

  pending(change) {
    this.objects.showPending();
    if (change.kind === "delete")
      this.changed(this.objects.merge(allWithPending(this.objects.visible)));
    this.canvas.paint();
  }

  /* Go where something was undone. */
  follow(fields) {
    if (fields.length && !fields.includes(this.field.id)) this.load(fields[0]);
  }

  onArrow(name) {
    if (!this.tools.key(name)) this.step(name.replace("shift+", ""));
  }

  escape() {
    if (this.tools.name) this.tools.take("");
    else if (document.activeElement === this.canvas.over)
      this.panel.element.querySelector("select, button:not(:disabled)").focus();
    else this.select(null);
  }

  onTab(event, by) {
    if (document.activeElement !== this.canvas.over) return false;
    return this.nextDoubtful(by);
  }

  bindings() {
    const { canvas, tools } = this;
    return [
      {
        keys: ["enter", "shift+enter", "backspace"],
        hidden: true,
        run: (event, name) =>
          tools.name === "join" && name === "enter"
            ? tools.joinWith(canvas.selected)
            : tools.key(name),
      },
      ...this.panel.labels.bindings(),
      {
        keys: ["tab"],
        does: "next doubtful cell; Esc and then Tab leaves the photograph",
        run: (event) => this.onTab(event, 1),
      },
      { keys: ["n"], does: "next doubtful cell", run: () => this.nextDoubtful(1), hidden: true },
      {
        keys: Object.keys(ARROWS),
        does: "cell to the left, above, ...",
        run: (event, name) => this.onArrow(name),
      },
      {
        keys: Object.keys(ARROWS).map((name) => `shift+${name}`),
        hidden: true,
        run: (event, name) => this.onArrow(name),
      },
      ...this.picker.bindings(canvas),
      {
        keys: ["w"],
        does: "mark the enclosing outlines as wrong",
        run: () => this.markEnclosing(),
      },
      { keys: ["space"], does: "hold: hide the outlines", run: () => canvas.hide(true) },
      { keys: ["d"], does: "draw an outline", run: () => tools.take("draw") },
      { keys: ["c"], does: "cut an outline in two", run: () => tools.take("cut") },
      { keys: ["j"], does: "join two outlines", run: () => tools.take("join") },
      { keys: ["delete", "backspace"], does: "delete the outline", run: () => this.remove() },
      {
        keys: ["escape"],
        does: "put the tool down; leave the photograph",
        run: () => this.escape(),
      },
    ];
  }
}
