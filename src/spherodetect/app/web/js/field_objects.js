/* The objects of one field as the page knows them: records, outlines, and how each is drawn. */

import { app } from "./app.js";
import { makeOutline, Outlines } from "./outlines.js";
import { UNLABELLED } from "./palette.js";
import { pendingDrawings } from "./steps.js";

const DISAGREES = { colour: "#d55e00", width: 7, dash: [], halo: false, opacity: 0.6, order: -1 };
const PLAIN = { ...UNLABELLED.line, colour: UNLABELLED.colour, opacity: 0.9, order: 0 };
const PENDING = { colour: "#0048ba", width: 1.6, dash: [3, 3], order: 5 };

export class FieldObjects {
  constructor(field, objects) {
    this.field = field;
    this.records = new Map();
    this.outlines = new Outlines([]);
    this.layers = { outlines: true, model: true, human: true, disagreement: false };
    this.styles = new Map();
    this.merge(objects);
    this.showPending();
  }

  get visible() {
    return [...this.records.values()];
  }

  /* Take records as they are now; returns the boxes of what changed its outline, and the ids that
     changed otherwise. */
  merge(objects) {
    const ids = [],
      boxes = [];
    for (const object of objects) {
      if (object.field !== this.field.id) continue;
      const known = this.records.get(object.id),
        outline = this.outlines.byId.get(object.id);
      if (!object.visible) {
        if (outline) boxes.push(outline.box);
        this.records.delete(object.id);
        this.outlines.remove(object.id);
        continue;
      }
      this.records.set(object.id, object);
      if (known && sameBox(known, object)) ids.push(object.id);
      else {
        this.outlines.add(makeOutline(object.id, [object.polygon_xy]));
        boxes.push(this.outlines.byId.get(object.id).box);
      }
    }
    return { ids, boxes };
  }

  /* Show what was labelled just now. Returns the ids that are of this field. */
  relabel(items) {
    const mine = items.filter((item) => this.records.has(item.object));
    for (const { object, label } of mine) {
      this.records.set(object, { ...this.records.get(object), label, by: app.reviewer });
    }
    return mine.map((item) => item.object);
  }

  /* Show outlines that were drawn and wait to be stored. */
  showPending() {
    for (const id of [...this.outlines.byId.keys()])
      if (typeof id === "string") this.outlines.remove(id);
    for (const { key, polygon_xy: ring } of pendingDrawings(this.field.id)) {
      this.outlines.add(makeOutline(key, [ring]));
    }
  }

  /* Those without a human label, the most doubtful first; without a prediction doubt is greatest. */
  doubtful() {
    return this.visible
      .filter((one) => one.label === null)
      .sort((a, b) => (b.doubt ?? 1) - (a.doubt ?? 1) || a.id - b.id);
  }

  /* How a cell is drawn, from below to above. */
  stylesOf(outline) {
    const record = this.records.get(outline.id);
    if (!record) return [PENDING];
    const strokes = this.layers.disagreement && disagrees(record) ? [DISAGREES] : [];
    const predicted = record.classifier?.label ?? record.model?.label ?? null;
    if (this.layers.human && record.label !== null) strokes.push(this.style(record.label, "human"));
    else if (this.layers.model && predicted !== null) strokes.push(this.style(predicted, "model"));
    else if (this.layers.outlines) strokes.push(PLAIN);
    return strokes;
  }

  style(label, from) {
    const name = `${label} ${from}`;
    if (!this.styles.has(name)) {
      const look = app.look(label);
      const human = from === "human";
      this.styles.set(name, {
        colour: look.colour,
        look: human || !look.usual ? look : null,
        ...look.line,
        hollow: !human,
        width: look.line.width * (human ? 1 : 0.8),
        opacity: human ? 1 : 0.8,
        order: human ? 2 : 1,
      });
    }
    return this.styles.get(name);
  }

  /* Labels got other colours or keys. */
  forgetStyles() {
    this.styles.clear();
  }

  get blind() {
    return !this.layers.model && !this.layers.human && !this.layers.disagreement;
  }
}

/* Whether reviewers disagree, or the person disagrees with what predicted last. */
export function disagrees(record) {
  const said = new Set(Object.values(record.labels || {}).filter((label) => label !== null));
  if (record.label !== null) said.add(record.label);
  if (said.size > 1) return true;
  const predicted = record.classifier?.label ?? record.model?.label ?? null;
  return record.label !== null && predicted !== null && predicted !== record.label;
}

function sameBox(a, b) {
  return (
    a.box_yxyx.every((value, at) => value === b.box_yxyx[at]) &&
    a.polygon_xy.length === b.polygon_xy.length &&
    a.polygon_xy.every((value, at) => value === b.polygon_xy[at])
  );
}
