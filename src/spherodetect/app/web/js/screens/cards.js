/* Cards: crops of cells at one zoom, by label or by doubt, which keys label. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, num, put, select } from "../dom.js";
import { Crops } from "../images.js";
import { bindScreen } from "../keys.js";
import { LabelBar } from "../label_bar.js";
import { notify } from "../notify.js";
import { markOf } from "../palette.js";
import { allWithPending, labelObjects } from "../steps.js";
import { Tiles } from "../tiles.js";

const CROP_PX = 128,
  TILE = { least: 104, foot: 25, gap: 10 },
  PAGE = 500;
/* Ids that the embedding hands over; more than an address holds. */
const CHOSEN = "spherodetect chosen";

/* Show these objects on the next visit. */
export function chooseObjects(ids) {
  sessionStorage.setItem(CHOSEN, JSON.stringify(ids));
}

export async function open(root, { query }) {
  const screen = new CardsScreen(root, query);
  await screen.start();
  return () => screen.close();
}

class CardsScreen {
  constructor(root, query) {
    this.root = root;
    this.ended = new AbortController();
    this.crops = new Crops({ size: CROP_PX, diameters: 2.2 });
    this.tiles = new Tiles({
      tile: TILE,
      label: "Cells",
      make: makeCard,
      draw: (element, item) => this.draw(element, item),
      name: (item) => `Cell ${item.id}, ${app.labelName(app.shown(item))}`,
      onActive: (item) => this.showActive(item),
    });
    this.labels = new LabelBar({ give: (label) => this.give(label), title: "Give a label" });
    this.mode = query.mode || "doubt";
    this.choice = { label: query.label ?? "", by: "shown", patient: query.patient || "" };
    this.seed = 1;
  }

  async start() {
    this.summary = h("p", { class: "note", role: "status" });
    this.active = h("p", { class: "note active-cell" });
    const fields = await app.fields();
    const patients = [...new Set(fields.map((field) => field.patient))];
    this.names = new Map(fields.map((field) => [field.id, field.name]));
    this.root.classList.add("cards");
    put(
      this.root,
      h("h1", { class: "unseen", text: "Cards" }),
      h("div", { class: "cards-top" }, this.controls(patients), this.labels.element),
      this.tiles.element,
      h("div", { class: "cards-foot" }, this.summary, this.active),
    );
    this.tiles.element.addEventListener("dragstart", (event) => this.drag(event));
    this.tiles.element.addEventListener("dblclick", () => this.toField());
    this.news = [
      app.on("labelled", (items) => this.relabel(items)),
      app.on("objects", (objects) => this.merge(objects)),
      app.on("labels", () => {
        this.labels.build();
        this.tiles.refresh(this.tiles.items.map((item) => item.id));
      }),
      app.on("reset", () => this.load()),
    ];
    bindScreen(this.bindings());
    await this.load();
    this.tiles.element.focus({ preventScroll: true });
  }

  close() {
    this.ended.abort();
    this.tiles.close();
    this.crops.close();
    this.news.forEach((end) => end());
  }

  controls(patients) {
    const given = readChosen();
    const modes = [
      ["doubt", "Half doubtful, half random"],
      ["class", "By label"],
      ...(given.length ? [["objects", `Chosen (${num(given.length, 0)})`]] : []),
    ];
    const mode = select(modes, this.mode, {
      "aria-label": "Which cells",
      onchange: () => {
        this.mode = mode.value;
        this.show();
        this.load();
      },
    });
    const label = select(
      [["", "all labels"], ["0", "no label"], ...app.labels.map((one) => [one.id, one.name])],
      this.choice.label,
      {
        "aria-label": "Label",
        onchange: () => {
          this.choice.label = label.value;
          this.load();
        },
      },
    );
    const by = select(
      [
        ["shown", "as shown"],
        ["human", "by people"],
        ["model", "by the model"],
        ["classifier", "by the classifier"],
      ],
      this.choice.by,
      {
        "aria-label": "Whose label",
        onchange: () => {
          this.choice.by = by.value;
          this.load();
        },
      },
    );
    const patient = select(
      [["", "all patients"], ...patients.map((one) => [one, one])],
      this.choice.patient,
      {
        "aria-label": "Patient",
        onchange: () => {
          this.choice.patient = patient.value;
          this.load();
        },
      },
    );
    const again = h("button", {
      text: "Draw others",
      onclick: () => {
        this.seed += 1;
        this.load();
      },
    });
    this.show = () => {
      label.hidden = by.hidden = this.mode !== "class";
      again.hidden = this.mode !== "doubt";
      patient.hidden = this.mode === "objects";
    };
    this.show();
    return h("div", { class: "row middle" }, mode, label, by, patient, again);
  }

  async load() {
    const mine = (this.loading = (this.loading || 0) + 1);
    const groups =
      this.mode === "class" && this.choice.label === ""
        ? await Promise.all(
            [...app.labels, { id: 0, name: "no label" }].map((label) => this.group(label)),
          )
        : [await this.group(null)];
    if (mine !== this.loading) return;
    const n = groups.reduce((sum, group) => sum + group.items.length, 0);
    const total = groups.reduce((sum, group) => sum + group.total, 0);
    this.tiles.setGroups(groups.filter((group) => group.items.length));
    this.summary.textContent =
      n < total ? `${num(n, 0)} of ${num(total, 0)} cells.` : `${count(n, "cell")}.`;
    if (!n)
      this.summary.textContent =
        "No cell. Find outlines on the screen Segment, or choose others above.";
  }

  /* One group of cards: of a label, or all that the mode asks for. */
  async group(label) {
    const { total, cards } = await this.ask(label);
    return {
      title: label ? `${label.name}, ${num(total, 0)}` : "",
      total,
      items: allWithPending(cards),
    };
  }

  ask(label) {
    const { signal } = this.ended;
    if (this.mode === "objects") {
      return call(at("cards"), {
        method: "POST",
        body: { mode: "objects", objects: readChosen() },
        signal,
      });
    }
    const { by, patient } = this.choice;
    const wanted =
      this.mode === "doubt"
        ? { mode: "doubt", seed: this.seed }
        : { mode: "class", by, label: label ? label.id : this.choice.label };
    return call(at("cards", { ...wanted, patient, limit: PAGE }), { signal });
  }

  draw(element, item) {
    const shown = app.shown(item),
      look = app.look(shown);
    const predicted = item.classifier || item.model;
    const [canvas, line] = element.children;
    if (canvas.dataset.object !== String(item.id)) this.crops.draw(canvas, item.id);
    element.style.setProperty("--label", look.colour);
    element.classList.toggle("human", item.label !== null);
    put(
      line,
      shown === null ? null : markOf(look, { size: 13, hollow: item.label === null }),
      h("span", { class: "word", text: app.labelName(shown) }),
      item.label === null && predicted
        ? h("span", { class: "n", text: num(predicted.p, 2) })
        : null,
    );
  }

  showActive(item) {
    const parts = [`Cell ${item.id} in ${this.names.get(item.field) || "?"}`];
    if (item.label !== null) parts.push(`${app.labelName(item.label)} by ${item.by}`);
    if (item.model) parts.push(`model: ${item.model.name}, ${num(item.model.p, 2)}`);
    put(
      this.active,
      `${parts.join("; ")}. `,
      h("a", { href: `#/field/${item.field}?object=${item.id}`, text: "Show in its field" }),
    );
  }

  toField() {
    const item = this.tiles.items[this.tiles.active];
    if (item) location.hash = `#/field/${item.field}?object=${item.id}`;
  }

  give(label) {
    const items = this.tiles.targets();
    if (!items.length) {
      notify("Choose a card first.");
      return;
    }
    if (!labelObjects(items, label, { source: "cards" })) return;
    const alone = items.length === 1 && this.tiles.hovered < 0 && !this.tiles.selected.size;
    if (alone) this.tiles.go(this.tiles.active + 1);
  }

  drag(event) {
    const tile = event.target.closest("[data-at]");
    if (!tile) return;
    const place = Number(tile.dataset.at);
    if (!this.tiles.selected.has(this.tiles.items[place].id)) this.tiles.go(place);
    this.tiles.hovered = -1;
    event.dataTransfer.effectAllowed = "copy";
    event.dataTransfer.setData("text/plain", count(this.tiles.targets().length, "cell"));
  }

  relabel(items) {
    for (const { object, label } of items) {
      const item = this.item(object);
      if (item) Object.assign(item, { label, by: app.reviewer });
    }
    this.tiles.refresh(items.map((one) => one.object));
  }

  merge(objects) {
    for (const object of objects) {
      const item = this.item(object.id);
      if (item) Object.assign(item, { ...object, polygon_xy: undefined });
    }
    this.tiles.refresh(objects.map((object) => object.id));
  }

  item(id) {
    return this.tiles.place ? this.tiles.items[this.tiles.place.get(id)] : null;
  }

  bindings() {
    return [
      ...this.labels.bindings(),
      ...this.tiles.bindings,
      { keys: ["enter"], does: "show the cell in its field", run: () => this.toField() },
    ];
  }
}

function makeCard() {
  const canvas = h("canvas", { width: CROP_PX, height: CROP_PX, "aria-hidden": "true" });
  return h("div", { class: "card", draggable: "true" }, canvas, h("div", { class: "says" }));
}

function readChosen() {
  try {
    return JSON.parse(sessionStorage.getItem(CHOSEN)) || [];
  } catch {
    return [];
  }
}
