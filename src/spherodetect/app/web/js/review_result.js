/* What a review proves: the interval before and after it. */

import { at, call, download } from "./api.js";
import { app } from "./app.js";
import { count, h, num, put } from "./dom.js";
import { runJob } from "./jobs.js";
import { notify } from "./notify.js";

/* Show the result of a review; while answers are on their way, what the server says instead.

   `goOn()` shows the pages of further cells. */
export async function showResult(root, review, { signal, goOn }) {
  const title = h("h1", { text: `Review: ${review.patient}` });
  let result = null;
  try {
    result = await call(at(`reviews/${review.id}/result`, { reviewer: app.reviewer }), { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    const again = () => showResult(root, review, { signal, goOn });
    put(
      root,
      title,
      h("p", { text: error.message }),
      h(
        "div",
        { class: "row" },
        h("button", { class: "main", text: "Ask again", onclick: again }),
        h("a", { class: "button", href: "#/review", text: "All reviews" }),
      ),
    );
    return;
  }
  const more = async () => {
    const body = {
      patient: review.patient,
      cells: result.more_cells,
      seed: 1,
      reviewer: app.reviewer,
    };
    await call(at("reviews"), { method: "POST", body, signal });
    await goOn();
  };
  put(
    root,
    title,
    h("p", { text: result.text }),
    intervals(result),
    figures(result),
    h(
      "div",
      { class: "row" },
      result.more_cells
        ? h("button", { text: `Review ${result.more_cells} more`, onclick: more })
        : null,
      h("a", { class: "button", href: "#/patients", text: "Patients" }),
    ),
    results(review, signal),
  );
}

/* The way of the answers to the results of `spherodetect score`. */
function results(review, signal) {
  const said = h("p", { class: "note", role: "status" });
  const save = async () => {
    try {
      await download(at(`reviews/${review.id}/answers.json`, { reviewer: app.reviewer }));
      said.textContent =
        "Saved. spherodetect review RESULTS --apply FILE takes it into a folder of results.";
    } catch (error) {
      notify(error.message, { problem: true });
    }
  };
  const take = async () => {
    try {
      const done = await runJob("exports/reviews", { reviewer: app.reviewer }, { signal });
      if (done)
        said.textContent = `The tables and pages of this folder rest on the reviews of ${count(done.n_reviewed_patients, "patient")} now. ${done.problems.join(" ")}`;
    } catch (error) {
      if (!signal.aborted) notify(error.message, { problem: true });
    }
  };
  return h(
    "section",
    {},
    h("h2", { text: "Results" }),
    h("p", {
      class: "note",
      text: app.session.is_results
        ? "The reports of this folder still show the score by the model until the reviews are taken in."
        : "The reports on the screen Statistics rest on the reviews. For results in another folder, download the answers.",
    }),
    h(
      "div",
      { class: "row" },
      app.session.is_results
        ? h("button", { class: "main", text: "Take the reviews into the results", onclick: take })
        : null,
      h("button", { text: "Download the answers", onclick: save }),
    ),
    said,
  );
}

function figures(result) {
  const { repeats } = result;
  const rows = [
    ["Reviewed", count(result.n_reviewed, "cell")],
    ["Spherocytes", num(result.n_spherocytes, 0)],
    ["Not a single cell", num(result.n_excluded, 0)],
    ["Unsure", num(result.n_unsure, 0)],
    ["Shown twice", `${repeats.same} of ${repeats.n} named the same again`],
    ["Reviewers", result.readers.map((one) => `${one.reviewer} (${one.n})`).join(", ")],
  ];
  return h(
    "dl",
    { class: "facts" },
    rows.flatMap(([name, value]) => [h("dt", { text: name }), h("dd", { text: value })]),
  );
}

/* Two bars on one axis: the interval by the model, and the reviewed one. */
function intervals({ before, after }) {
  const most = Math.min(100, Math.max(before.high ?? 0, after.high ?? 0) * 1.15 || 10);
  const bar = (name, one, kind) => {
    const place = (value) => `${(100 * value) / most}%`;
    return h(
      "div",
      { class: `interval ${kind}` },
      h("span", { class: "name", text: name }),
      h(
        "div",
        { class: "axis" },
        h("span", {
          class: "reach",
          style: { left: place(one.low), width: place(one.high - one.low) },
        }),
        h("span", { class: "point", style: { left: place(one.hs_score) } }),
      ),
      h("span", {
        class: "value",
        text: `${num(one.hs_score)} % (${num(one.low)} to ${num(one.high)})`,
      }),
    );
  };
  return h(
    "div",
    { class: "intervals" },
    before.hs_score === null ? null : bar("Before, by the model", before, "old"),
    bar("Now, reviewed", after, "new"),
    h("p", { class: "note", text: `0 to ${num(most, 0)} %; 95 % intervals of the patient.` }),
  );
}
