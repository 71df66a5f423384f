/* One blind page of a review: crops in a shuffled order, named by keys. */

import { at, call, picture } from "./api.js";
import { app } from "./app.js";
import { h, put } from "./dom.js";
import { drawCrop } from "./images.js";
import { bindScreen } from "./keys.js";
import { showResult } from "./review_result.js";
import { step } from "./steps.js";

const ANSWERS = [
  {
    value: "spherocyte",
    key: "s",
    name: "Spherocyte",
    means: "round and dense, no central pallor",
  },
  {
    value: "other",
    key: "o",
    name: "Other red cell",
    short: "Other",
    means: "any other whole, single red cell",
  },
  {
    value: "excluded",
    key: "x",
    name: "Not a single cell",
    short: "Not single",
    means: "cut, overlapping, blurred or no red cell: left out of the share",
  },
  { value: "unsure", key: "u", name: "Unsure", means: "left out of the share, and counted" },
];
const CROP_PX = 160;

export class ReviewPage {
  constructor(root, id, signal) {
    Object.assign(this, { root, id, signal, at: 0 });
  }

  async start(page) {
    if (!app.reviewer) {
      put(
        this.root,
        h("h1", { text: "Review" }),
        h("p", { text: "Say who reviews first: the button in the header." }),
      );
      return;
    }
    await this.loadReview();
    const wanted = page || this.firstOpen();
    if (wanted) await this.load(wanted);
    else await this.finished();
  }

  /* The first page with an open cell, from 1; 0 where there is none. */
  firstOpen() {
    return this.review.answered.findIndex((n, i) => n < this.sizeOf(i)) + 1;
  }

  async loadReview() {
    this.review = (
      await call(at(`reviews/${this.id}`, { reviewer: app.reviewer }), { signal: this.signal })
    ).review;
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
    this.at = Math.max(
      0,
      items.findIndex((item) => !item.answer),
    );
    history.replaceState(null, "", `#/review/${this.id}?page=${page}`);
    this.build(sheet);
    bindScreen(this.bindings());
    this.tiles[this.at].focus();
  }

  /* Show what is stored, after an undo. */
  async loadAnswers() {
    if (!this.items) return;
    const answer = await call(
      at(`reviews/${this.id}/pages/${this.page}`, { reviewer: app.reviewer }),
      { signal: this.signal },
    );
    this.items = answer.items;
    this.items.forEach((item, place) => this.show(place));
    this.showCount();
  }

  build(sheet) {
    this.tiles = this.items.map((item, place) => {
      const canvas = h("canvas", { width: CROP_PX, height: CROP_PX, "aria-hidden": "true" });
      drawCrop(canvas, sheet, place, CROP_PX);
      return h(
        "button",
        { class: "cell-tile", onclick: () => this.select(place) },
        h("span", { class: "picture" }, canvas),
        h("span", { class: "says" }),
      );
    });
    this.count = h("span", { role: "status" });
    this.bar = h("progress", {
      max: this.items.length,
      "aria-label": "Cells of this page that are named",
    });
    put(
      this.root,
      h(
        "div",
        { class: "review-top" },
        h("h1", { text: `Review: ${this.review.patient}` }),
        h("p", {
          class: "note",
          text: `Page ${this.page} of ${this.review.n_pages}. Name the cell between the four corners.`,
        }),
      ),
      h("div", { class: "review-grid", data: { keys: "screen" } }, this.tiles),
      h(
        "div",
        { class: "review-foot" },
        h("div", { class: "row middle" }, this.count, this.bar),
        h(
          "div",
          { class: "answers" },
          ANSWERS.map((one) =>
            h(
              "button",
              {
                data: { answer: one.value },
                title: one.means,
                onclick: () => this.give(one.value),
              },
              h("kbd", { text: one.key.toUpperCase() }),
              one.name,
            ),
          ),
        ),
        h(
          "div",
          { class: "row middle" },
          h("button", {
            text: "\u2190 Page",
            disabled: this.page === 1,
            onclick: () => this.turn(-1),
          }),
          h("button", { text: "Page \u2192", onclick: () => this.turn(1) }),
          h(
            "button",
            { class: "main", onclick: () => this.finish() },
            "The rest is other",
            h("kbd", { text: "Enter" }),
          ),
        ),
      ),
    );
    this.items.forEach((item, place) => this.show(place));
    this.showCount();
  }

  show(place) {
    const item = this.items[place],
      tile = this.tiles[place];
    const answer = ANSWERS.find((one) => one.value === item.answer);
    tile.dataset.answer = item.answer || "";
    tile.setAttribute("aria-label", `Cell ${place + 1}, ${answer ? answer.name : "not named"}`);
    put(
      tile.lastChild,
      answer
        ? [h("kbd", { text: answer.key.toUpperCase() }), answer.short || answer.name]
        : "\u00a0",
    );
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
    if (!answers.length || !step({ kind: "answer", review: this.id, page: this.page, answers }))
      return;
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
    this.store(
      this.items.filter((item) => !item.answer).map((item) => ({ n: item.n, answer: "other" })),
    );
    this.turn(1);
  }

  async turn(by) {
    const page = this.page + by;
    if (page < 1) return;
    if (page <= this.review.n_pages) await this.load(page);
    else await this.finished();
  }

  columns() {
    return getComputedStyle(this.tiles[0].parentElement).gridTemplateColumns.split(" ").length;
  }

  bindings() {
    const steps = {
      arrowleft: () => -1,
      arrowright: () => 1,
      arrowup: () => -this.columns(),
      arrowdown: () => this.columns(),
    };
    return [
      ...ANSWERS.map((one) => ({
        keys: [one.key],
        does: `${one.name}: ${one.means}`,
        run: () => this.give(one.value),
      })),
      {
        keys: Object.keys(steps),
        does: "move",
        run: (event, name) => this.select(this.at + steps[name]()),
      },
      { keys: ["enter"], does: "name the rest other, next page", run: () => this.finish() },
      { keys: ["n", "]"], does: "next page", run: () => this.turn(1) },
      { keys: ["p", "["], does: "page before", run: () => this.turn(-1) },
    ];
  }

  /* All pages are named: show what that proves; the person may go on with further cells. */
  async finished() {
    bindScreen([]);
    await showResult(this.root, this.review, {
      signal: this.signal,
      goOn: async () => {
        await this.loadReview();
        await this.load(this.firstOpen() || 1);
      },
    });
  }
}
