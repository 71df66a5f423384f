/* Review: blind pages of shuffled crops of a drawn sample. Nothing here knows what a model said. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { setBlind } from "../changes.js";
import { count, h, labelled, numberInput, put, select } from "../dom.js";
import { ReviewPage } from "../review_page.js";

export async function open(root, { id, query }) {
  setBlind(true);
  const ended = new AbortController();
  let page = null;
  const end = app.on("undone", () => page?.loadAnswers());
  const close = () => {
    setBlind(false);
    ended.abort();
    end();
  };
  try {
    if (id) {
      page = new ReviewPage(root, Number(id), ended.signal);
      await page.start(Number(query.page) || 0);
    } else await showStart(root, query, ended.signal);
  } catch (error) {
    close();
    throw error;
  }
  return close;
}

/* The choice of a patient, and the reviews that were begun. */
async function showStart(root, query, signal) {
  const [fields, { reviews }] = await Promise.all([
    app.fields(),
    call(at("reviews", { reviewer: app.reviewer }), { signal }),
  ]);
  const patients = [...new Set(fields.map((field) => field.patient))];
  const patient = select(
    patients.map((one) => [one, one]),
    query.patient,
  );
  const cells = numberInput({ value: 100, min: 50, max: 300, step: 10 });
  const begin = async () => {
    if (!app.reviewer) return app.tell("who");
    const body = {
      patient: patient.value,
      cells: Number(cells.value),
      seed: 1,
      reviewer: app.reviewer,
    };
    const { review } = await call(at("reviews"), { method: "POST", body, signal });
    location.hash = `#/review/${review.id}`;
    return undefined;
  };
  const rows = reviews.map((review) =>
    h(
      "li",
      {},
      h("a", { href: `#/review/${review.id}`, text: review.patient }),
      `: ${sum(review.answered)} of ${count(review.n_cells, "cell")} by ${app.reviewer || "you"}${review.done ? ", finished" : ""}`,
    ),
  );
  put(
    root,
    h("h1", { text: "Review" }),
    h("p", {
      text: "You name a random sample of a patient's cells without seeing what the model said. The score then rests on your answers, whatever the model called the cells.",
    }),
    h("p", {
      class: "note",
      text: "About 100 cells narrow the interval to 8 to 12 points, 200 to 5 to 7. About one cell in ten appears twice, which shows how well your answers agree. What was reviewed does not train, unless you say so on the screen Train.",
    }),
    h(
      "div",
      { class: "row" },
      labelled("Patient", patient),
      labelled("Cells", cells),
      h("button", {
        class: "main",
        text: "Begin or go on",
        disabled: !patients.length,
        onclick: begin,
      }),
    ),
    h("p", {
      class: "note",
      text: "A review begins with 50 cells or more. Of a patient whose review has begun, these are further cells.",
    }),
    rows.length
      ? h("section", {}, h("h2", { text: "Reviews" }), h("ul", { class: "plain" }, rows))
      : null,
  );
}

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
