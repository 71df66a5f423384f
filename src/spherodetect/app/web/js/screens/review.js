/* Review: blind pages of shuffled crops of a drawn sample. Nothing here knows what a model said. */

import { at, call, picture } from "../api.js";
import { app } from "../app.js";
import { setBlind } from "../changes.js";
import { count, h, labelled, num, numberInput, put, select } from "../dom.js";
import { drawCrop } from "../images.js";
import { bindScreen } from "../keys.js";
import { notify } from "../notify.js";
import { step } from "../steps.js";

const ANSWERS = [
  { value: "spherocyte", key: "s", name: "Spherocyte", means: "round and dense, no central pallor" },
  { value: "other", key: "o", name: "Other red cell", means: "any other whole, single red cell" },
  { value: "excluded", key: "x", name: "Not a single cell", means: "cut, overlapping, blurred or no red cell: left out of the share" },
  { value: "unsure", key: "u", name: "Unsure", means: "left out of the share, and counted" },
];
const CROP_PX = 160;

export async function open(root, { id, query }) {
  setBlind(true);
  const ended = new AbortController();
  let page = null;
  const end = app.on("undone", () => page?.loadAnswers());
  const close = () => { setBlind(false); ended.abort(); end(); };
  try {
    if (id) {
      page = new ReviewPage(root, Number(id), ended.signal);
      await page.start(Number(query.page) || 0);
    }
    else await showStart(root, query, ended.signal);
  } catch (error) {
    close();
    throw error;
  }
  return close;
}

/* The choice of a patient, and the reviews that were begun. */
async function showStart(root, query, signal) {
  const [fields, { reviews }] = await Promise.all([app.fields(), call(at("reviews", { reviewer: app.reviewer }), { signal })]);
  const patients = [...new Set(fields.map((field) => field.patient))];
  const patient = select(patients.map((one) => [one, one]), query.patient);
  const cells = numberInput({ value: 100, min: 10, max: 300, step: 10 });
  const begin = async () => {
    if (!app.reviewer) return app.tell("who");
    const body = { patient: patient.value, cells: Number(cells.value), seed: 1, reviewer: app.reviewer };
    const { review } = await call(at("reviews"), { method: "POST", body, signal });
    location.hash = `#/review/${review.id}`;
    return undefined;
  };
  const rows = reviews.map((review) => h("li", {},
    h("a", { href: `#/review/${review.id}`, text: review.patient }),
    ` ${sum(review.answered)} of ${count(review.n_cells, "cell")} by ${app.reviewer || "you"}${review.done ? ", finished" : ""}`));
  put(root, h("h1", { text: "Review" }),
    h("p", { text: "You name a random sample of a patient's cells without seeing what the model said. The score then rests on your answers, whatever the model called the cells." }),
    h("p", { class: "note", text: "About 100 cells narrow the interval to 8 to 12 points, 200 to 5 to 7. About one cell in ten appears twice, which shows how well your answers agree. What was reviewed does not train, unless you say so on the screen Train." }),
    h("div", { class: "row" }, labelled("Patient", patient), labelled("Cells", cells, "of a patient whose review has begun: further cells"),
      h("button", { class: "main", text: "Begin or go on", disabled: !patients.length, onclick: begin })),
    rows.length ? h("section", {}, h("h2", { text: "Reviews" }), h("ul", { class: "plain" }, rows)) : null);
}

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);

class ReviewPage {
  constructor(root, id, signal) {
    Object.assign(this, { root, id, signal, at: 0 });
  }

  async start(page) {
    if (!app.reviewer) {
      put(this.root, h("h1", { text: "Review" }), h("p", { text: "Say who reviews first: the button in the header." }));
      return;
    }
    await this.loadReview();
    const open = this.review.answered.findIndex((n, i) => n < this.sizeOf(i));
    if (!page && open < 0) await this.showResult();
    else await this.load(page || open + 1);
  }

  async loadReview() {
    this.review = (await call(at(`reviews/${this.id}`, { reviewer: app.reviewer }), { signal: this.signal })).review;
  }

  sizeOf(page) {
    const { n_cells: n, per_page: per } = this.review;
    return Math.min(per, n - page * per);
  }

  async load(page) {
    this.page = page;
    const path = `reviews/${this.id}/pages/${page}`;
    const [{ items }, sheet] = await Promise.all([
      call(at(path, { reviewer: app.reviewer }), { signal: this.signal }),
      picture(at(`${path}/crops`, { size: CROP_PX }), { signal: this.signal }),
    ]);
    this.items = items;
    this.at = Math.max(0, items.findIndex((item) => !item.answer));
    history.replaceState(null, "", `#/review/${this.id}?page=${page}`);
    this.build(sheet);
    bindScreen(this.bindings());
    this.tiles[this.at].focus();
  }

  /* Show what is stored, after an undo. */
  async loadAnswers() {
    if (!this.items) return;
    const answer = await call(at(`reviews/${this.id}/pages/${this.page}`, { reviewer: app.reviewer }), { signal: this.signal });
    this.items = answer.items;
    this.items.forEach((item, place) => this.show(place));
    this.showCount();
  }

  build(sheet) {
    this.tiles = this.items.map((item, place) => {
      const canvas = h("canvas", { width: CROP_PX, height: CROP_PX, "aria-hidden": "true" });
      drawCrop(canvas, sheet, place, CROP_PX);
      return h("button", { class: "cell-tile", onclick: () => this.select(place) },
        h("span", { class: "picture" }, canvas), h("span", { class: "says" }));
    });
    this.count = h("span", { role: "status" });
    this.bar = h("progress", { max: this.items.length, "aria-label": "Cells of this page that are named" });
    put(this.root, h("div", { class: "review-top" },
      h("h1", { text: `Review: ${this.review.patient}` }),
      h("p", { class: "note", text: `Page ${this.page} of ${this.review.n_pages}. Name the cell between the four corners.` })),
    h("div", { class: "review-grid", data: { keys: "screen" } }, this.tiles),
    h("div", { class: "review-foot" },
      h("div", { class: "row middle" }, this.count, this.bar),
      h("div", { class: "answers" }, ANSWERS.map((one) => h("button", { data: { answer: one.value }, title: one.means, onclick: () => this.give(one.value) },
        h("kbd", { text: one.key.toUpperCase() }), one.name))),
      h("div", { class: "row middle" },
        h("button", { text: "\u2190 Page", disabled: this.page === 1, onclick: () => this.turn(-1) }),
        h("button", { text: "Page \u2192", onclick: () => this.turn(1) }),
        h("button", { class: "main", onclick: () => this.finish() }, "The rest is other", h("kbd", { text: "Enter" })))));
    this.items.forEach((item, place) => this.show(place));
    this.showCount();
  }

  show(place) {
    const item = this.items[place], tile = this.tiles[place];
    const answer = ANSWERS.find((one) => one.value === item.answer);
    tile.dataset.answer = item.answer || "";
    tile.setAttribute("aria-label", `Cell ${place + 1}, ${answer ? answer.name : "not named"}`);
    put(tile.lastChild, answer ? [h("kbd", { text: answer.key.toUpperCase() }), answer.name] : "\u00a0");
  }

  showCount() {
    const n = this.items.filter((item) => item.answer).length;
    this.count.textContent = `${n} of ${this.items.length} named`;
    this.bar.value = n;
  }

  select(place) {
    this.at = Math.max(0, Math.min(this.items.length - 1, place));
    this.tiles[this.at].focus();
    this.tiles[this.at].scrollIntoView({ block: "nearest" });
  }

  give(answer) {
    this.store([{ n: this.items[this.at].n, answer }]);
    const next = this.items.findIndex((item, place) => place > this.at && !item.answer);
    if (next > 0) this.select(next);
  }

  store(answers) {
    if (!answers.length || !step({ kind: "answer", review: this.id, page: this.page, answers })) return;
    const given = new Map(answers.map((one) => [one.n, one.answer]));
    this.items.forEach((item, place) => {
      if (!given.has(item.n)) return;
      item.answer = given.get(item.n);
      this.show(place);
    });
    this.showCount();
  }

  /* Name the rest "other", and go to the next page. */
  finish() {
    this.store(this.items.filter((item) => !item.answer).map((item) => ({ n: item.n, answer: "other" })));
    this.turn(1);
  }

  async turn(by) {
    const page = this.page + by;
    if (page < 1) return;
    if (page <= this.review.n_pages) await this.load(page);
    else await this.showResult();
  }

  columns() {
    return getComputedStyle(this.tiles[0].parentElement).gridTemplateColumns.split(" ").length;
  }

  bindings() {
    const steps = { arrowleft: () => -1, arrowright: () => 1, arrowup: () => -this.columns(), arrowdown: () => this.columns() };
    return [
      ...ANSWERS.map((one) => ({ keys: [one.key], does: `${one.name}: ${one.means}`, run: () => this.give(one.value) })),
      { keys: Object.keys(steps), does: "move", run: (event, name) => this.select(this.at + steps[name]()) },
      { keys: ["enter"], does: "name the rest other, next page", run: () => this.finish() },
      { keys: ["n", "]"], does: "next page", run: () => this.turn(1) },
      { keys: ["p", "["], does: "page before", run: () => this.turn(-1) },
    ];
  }

  /* The interval before and after; asked for again while answers are on their way. */
  async showResult() {
    bindScreen([]);
    let result = null;
    try {
      result = await call(at(`reviews/${this.id}/result`, { reviewer: app.reviewer }), { signal: this.signal });
    } catch (error) {
      if (this.signal.aborted) throw error;
      put(this.root, h("h1", { text: `Review: ${this.review.patient}` }), h("p", { text: error.message }),
        h("div", { class: "row" }, h("button", { class: "main", text: "Ask again", onclick: () => this.showResult() }),
          h("a", { class: "button", href: "#/review", text: "All reviews" })));
      return;
    }
    const more = async () => {
      const body = { patient: this.review.patient, cells: result.more_cells || 25, seed: 1, reviewer: app.reviewer };
      await call(at("reviews"), { method: "POST", body, signal: this.signal });
      await this.loadReview();
      await this.load(this.review.answered.findIndex((n, i) => n < this.sizeOf(i)) + 1 || 1);
    };
    put(this.root, h("h1", { text: `Review: ${this.review.patient}` }), h("p", { text: result.text }),
      intervals(result), this.figures(result),
      h("div", { class: "row" }, result.more_cells ? h("button", { text: `Review ${result.more_cells} more`, onclick: more }) : null,
        h("a", { class: "button", href: "#/patients", text: "Patients" })));
    notify("The review is complete.");
  }

  figures(result) {
    const { repeats } = result;
    const rows = [["Reviewed", count(result.n_reviewed, "cell")], ["Spherocytes", num(result.n_spherocytes, 0)],
      ["Not a single cell", num(result.n_excluded, 0)], ["Unsure", num(result.n_unsure, 0)],
      ["Shown twice", `${repeats.same} of ${repeats.n} named the same again`],
      ["Reviewers", result.readers.map((one) => `${one.reviewer} (${one.n})`).join(", ")]];
    return h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", { text: value })]));
  }
}

/* Two bars on one axis: the interval by the model, and the reviewed one. */
function intervals({ before, after }) {
  const most = Math.min(100, Math.max(before.high ?? 0, after.high ?? 0) * 1.15 || 10);
  const bar = (name, one, kind) => {
    const place = (value) => `${(100 * value) / most}%`;
    return h("div", { class: `interval ${kind}` }, h("span", { class: "name", text: name }),
      h("div", { class: "axis" },
        h("span", { class: "reach", style: { left: place(one.low), width: place(one.high - one.low) } }),
        h("span", { class: "point", style: { left: place(one.hs_score) } })),
      h("span", { class: "value", text: `${num(one.hs_score)} % (${num(one.low)} to ${num(one.high)})` }));
  };
  return h("div", { class: "intervals" }, before.hs_score === null ? null : bar("Before, by the model", before, "old"),
    bar("Now, reviewed", after, "new"), h("p", { class: "note", text: `0 to ${num(most, 0)} %; 95 % intervals of the patient.` }));
}
