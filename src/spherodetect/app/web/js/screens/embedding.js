/* Embedding: cells by their measurements on a plane; what a lasso takes goes to Cards. */

import { app } from "../app.js";
import { count, h, labelled, num, numberInput, put, select } from "../dom.js";
import { runJob } from "../jobs.js";
import { notify } from "../notify.js";
import { markOf } from "../palette.js";
import { Scatter } from "../scatter.js";
import { chooseObjects } from "./cards.js";

const PARTS = [
  ["validation", "held out"],
  ["train", "trained on"],
  ["none", "not labelled"],
];

export async function open(root) {
  const ended = new AbortController();
  let chosen = [];
  const toCards = h("button", {
    class: "main",
    text: "Show in Cards",
    disabled: true,
    onclick: () => {
      chooseObjects(chosen.map((point) => point.object));
      location.hash = "#/cards?mode=objects";
    },
  });
  const scatter = new Scatter({
    label: "Cells by their measurements",
    onChoose: (points) => {
      chosen = points;
      toCards.disabled = !points.length;
      toCards.textContent = points.length
        ? `Show ${count(points.length, "cell")} in Cards`
        : "Show in Cards";
    },
  });
  const method = select(
    [
      ["pca", "PCA"],
      ["tsne", "t-SNE"],
    ],
    "pca",
  );
  const most = numberInput({ value: 3000, min: 50, max: 20000, step: 50 });
  const said = h("p", { class: "note", role: "status" });
  const make = async () => {
    said.textContent = "Computing.";
    try {
      const result = await runJob(
        "embeddings",
        { method: method.value, max: Number(most.value), seed: 1 },
        { signal: ended.signal },
      );
      if (result) shown(result);
      else said.textContent = "";
    } catch (error) {
      if (!ended.signal.aborted) said.textContent = error.message;
    }
  };
  const legend = h("div", { class: "legend" });
  const shown = (result) => {
    scatter.show(result.points);
    const parts = [count(result.points.length, "cell")];
    if (result.explained)
      parts.push(
        `the two axes hold ${num(100 * (result.explained[0] + result.explained[1]), 0)} % of the spread`,
      );
    if (result.n_left_out) parts.push(`${num(result.n_left_out, 0)} left out`);
    said.textContent = `${parts.join("; ")}.`;
    put(legend, groups(result.points, scatter));
  };
  put(
    root,
    h("h1", { text: "Embedding" }),
    h("p", {
      class: "note",
      text: "Cells that are alike lie near each other. A ring marks what was held out; hollow marks are a model's labels. Draw a lasso around cells that lie among others, and look at them in Cards.",
    }),
    h(
      "div",
      { class: "row" },
      labelled("Method", method),
      labelled("At most, cells", most),
      h("button", { text: "Compute", onclick: make }),
      toCards,
    ),
    said,
    h("div", { class: "embedding" }, scatter.element, legend),
  );
  root.classList.add("plot");
  make().catch((error) => notify(error.message, { problem: true }));
  return () => {
    ended.abort();
    scatter.end();
  };
}

/* Each label and part as a button, which chooses its cells: the lasso for the keyboard. */
function groups(points, scatter) {
  return [...app.labels.map((label) => label.id), null]
    .flatMap((id) =>
      PARTS.map(([part, name]) => {
        const mine = points.filter(
          (point) => point.part === part && (point.label ?? point.shown) === id,
        );
        if (!mine.length) return null;
        return h(
          "button",
          { class: "quiet", onclick: () => scatter.choose(mine) },
          id === null
            ? null
            : markOf(app.look(id), {
                size: 18,
                hollow: part === "none",
                ring: part === "validation",
              }),
          `${app.labelName(id)}, ${name}`,
          h("span", { class: "n", text: num(mine.length, 0) }),
        );
      }),
    )
    .filter(Boolean);
}
