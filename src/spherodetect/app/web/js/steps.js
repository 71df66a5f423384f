/* Steps: everything that a person changes about objects. They are shown at once, queued, and sent.

   The journal of a reviewer keeps what each labelling changed, so that undo and redo are shown
   before the server answers. What the server answers counts. */

import { at, call, newKey } from "./api.js";
import { app } from "./app.js";
import { Outbox } from "./outbox.js";
import { notify } from "./notify.js";

const JOURNAL_LENGTH = 500;
let outbox = null;
let undoable = { can_undo: false, can_redo: false };

/* Begin: send what an earlier page left over. */
export function startSteps() {
  outbox = new Outbox(projectId(), send);
  outbox.onChange = () => app.tell("state");
  outbox.onRefused = (message) => refused(message);
  outbox.flush();
  loadUndoable();
  app.on("reviewer", loadUndoable);
}

async function loadUndoable() {
  if (!app.reviewer) return;
  undoable = await call(at("undo", { reviewer: app.reviewer })).catch(() => undoable);
  app.tell("state");
}

/* {unsaved, away, problem, canUndo, canRedo} for the header. */
export function stepState() {
  return {
    unsaved: outbox?.size || 0,
    away: Boolean(outbox?.away),
    problem: outbox?.problem || "",
    canUndo: undoable.can_undo || Boolean(outbox?.size),
    canRedo: undoable.can_redo,
  };
}

export function sendWaiting() {
  outbox?.flush();
}

async function send(entries) {
  const body = { reviewer: entries[0].reviewer, steps: entries.map((entry) => entry.step) };
  const answer = await call(at("steps"), { method: "POST", body });
  undoable = answer;
  for (const one of answer.results) {
    if (one.status === "refused") refused(one.error);
    if (one.undid) app.tell("undone", one);
  }
  // The outbox drops the entries after this; until then they still cover the records.
  setTimeout(() => app.tell("objects", answer.objects.map(withPending)), 0);
  return answer;
}

/* Say why, and show again what is stored. */
function refused(message) {
  notify(message, { problem: true });
  setTimeout(() => app.tell("reset"), 0);
}

function queue(change, local = {}) {
  if (!app.reviewer) {
    app.tell("who");
    return false;
  }
  outbox.add({ reviewer: app.reviewer, step: { key: newKey(), ...change }, ...local });
  return true;
}

/* Label objects. `objects` are records, which are changed here; `label` is an id or null. */
export function labelObjects(objects, label, { source, seen = "open" }) {
  return labelItems(
    objects.map((object) => ({ object, label })),
    { source, seen },
  );
}

/* The same with a label for each: items are {object: record, label}. */
export function labelItems(pairs, { source, seen = "open" }) {
  const items = pairs.map(({ object, label }) => ({ object: object.id, label }));
  const before = pairs.map(({ object }) => ({ object: object.id, label: object.label ?? null }));
  if (!items.length || !queue({ kind: "label", source, seen, items })) return false;
  const journal = readJournal();
  journal.done.push({ before, after: items });
  writeJournal({ done: journal.done.slice(-JOURNAL_LENGTH), undone: [] });
  app.tell("labelled", items);
  return true;
}

/* Any other step: draw, cut, join, delete, queue, answer. */
export function step(change) {
  if (!queue(change)) return false;
  const { done } = readJournal();
  writeJournal({ done: [...done, { before: [], after: [] }].slice(-JOURNAL_LENGTH), undone: [] });
  app.tell("pending", change);
  return true;
}

export function undo() {
  const { done, undone } = readJournal();
  const last = done.pop();
  if (!queue({ kind: "undo" }, { shows: last?.before })) return;
  if (last) writeJournal({ done, undone: [...undone, last] });
  if (last?.before.length) app.tell("labelled", last.before);
}

export function redo() {
  const { done, undone } = readJournal();
  const last = undone.pop();
  if (!queue({ kind: "redo" }, { shows: last?.after })) return;
  if (last) writeJournal({ done: [...done, last], undone });
  if (last?.after.length) app.tell("labelled", last.after);
}

/* The record of an object with what the queue still holds about it. */
function withPending(object) {
  let covered = object;
  for (const { step: one, shows } of outbox?.entries || []) {
    const items = one.kind === "label" ? one.items : shows || [];
    const mine = items.find((item) => item.object === object.id);
    if (mine) covered = { ...covered, label: mine.label };
    if (one.kind === "delete" && one.objects.includes(object.id))
      covered = { ...covered, visible: false };
  }
  return covered;
}

/* Several records with what the queue holds; one pass over the queue. */
export function allWithPending(objects) {
  const touched = new Set(
    (outbox?.entries || []).flatMap(({ step: one, shows }) =>
      [...(one.items || []), ...(shows || [])].map((item) => item.object).concat(one.objects || []),
    ),
  );
  return touched.size
    ? objects.map((one) => (touched.has(one.id) ? withPending(one) : one))
    : objects;
}

/* Outlines of a field that were drawn and are not stored yet: {key, polygon_xy, label}. */
export function pendingDrawings(field) {
  return (outbox?.entries || [])
    .map((entry) => entry.step)
    .filter((one) => one.kind === "draw" && one.field === field);
}

function projectId() {
  return app.session.project_id ?? app.session.project;
}

function journalName() {
  return `spherodetect journal ${projectId()} ${app.reviewer}`;
}

function readJournal() {
  try {
    const { done, undone } = JSON.parse(localStorage.getItem(journalName()));
    return { done, undone };
  } catch {
    return { done: [], undone: [] };
  }
}

function writeJournal(journal) {
  try {
    localStorage.setItem(journalName(), JSON.stringify(journal));
  } catch {
    // Without room for the journal, undo is shown once the server answers.
  }
}
