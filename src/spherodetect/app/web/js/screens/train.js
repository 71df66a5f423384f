/* Train: a classifier on what was labelled, its figures on held-out patients, and the way on. */

import { at, call, download } from "../api.js";
import { app } from "../app.js";
import { count, h, num, put, table } from "../dom.js";
import { runJob } from "../jobs.js";
import { notify } from "../notify.js";
import { markOf } from "../palette.js";

export async function open(root) {
  const ended = new AbortController();
  await show(root, ended.signal);
  return () => ended.abort();
}

async function show(root, signal) {
  const [training, { classifiers }] = await Promise.all([
    call(at("training"), { signal }),
    call(at("classifiers"), { signal }),
  ]);
  const latest = classifiers.at(-1);
  put(
    root,
    h("h1", { text: "Train" }),
    h("p", {
      text: "A classifier learns the labels from the measured size, shape and density of the cells that people labelled, in seconds. It is then applied to all fields. Label what it doubts, and train again.",
    }),
    h("h2", { text: "What was labelled" }),
    labelledTable(training),
    warnings(training),
    trainForm(root, training, signal),
    latest ? figures(latest) : null,
    wayOn(training),
  );
}

const labelCell = (id) =>
  h(
    "span",
    { class: "named" },
    app.label(id) ? markOf(app.look(id)) : null,
    " ",
    app.labelName(id),
  );

function labelledTable(training) {
  return table(
    [
      { title: "Label", cell: (one) => labelCell(one.label) },
      { title: "Cells", class: "n", cell: (one) => num(one.n, 0) },
      { title: "Patients", class: "n", cell: (one) => num(one.n_patients, 0) },
      { title: "Fields", class: "n", cell: (one) => num(one.n_fields, 0) },
      { title: "of these reviewed blind", class: "n", cell: (one) => num(one.n_reviewed, 0) },
    ],
    training.labels,
    {
      caption: "What was labelled",
      empty: "Nothing was labelled yet. Label cells on the screens Field and Cards.",
    },
  );
}

function warnings(training) {
  const held = training.validation?.length
    ? h("p", {
        class: "note",
        text: `Held out by ${training.groups}: ${training.validation.join(", ")}. They stay the same, so that classifiers can be compared.`,
      })
    : null;
  return [
    training.warning ? h("div", { class: "box warn" }, h("p", { text: training.warning })) : null,
    held,
  ];
}

function trainForm(root, training, signal) {
  const reviewed = h("input", { type: "checkbox" });
  const button = h("button", {
    class: "main",
    text: "Train and apply to all fields",
    disabled: !training.ready,
    onclick: async () => {
      if (!app.reviewer) return app.tell("who");
      button.disabled = true;
      try {
        const result = await runJob(
          "classifiers",
          { include_reviewed: reviewed.checked, reviewer: app.reviewer },
          { signal },
        );
        if (result) await show(root, signal);
      } catch (error) {
        if (!signal.aborted) notify(error.message, { problem: true });
      }
      button.disabled = false;
      return undefined;
    },
  });
  return h(
    "div",
    { class: "row middle" },
    button,
    h(
      "label",
      { class: "check" },
      reviewed,
      "Train on reviewed cells too: they then prove nothing about this classifier",
    ),
    training.ready ? null : h("p", { class: "problem", text: training.why }),
  );
}

function figures(one) {
  const section = h(
    "section",
    {},
    h(
      "h2",
      {},
      `Classifier ${one.id} `,
      h("small", {
        text: `of ${one.at.slice(0, 16).replace("T", " ")} UTC, trained on ${count(one.n_train, "cell")}`,
      }),
    ),
  );
  if (one.warning) section.append(h("div", { class: "box warn" }, h("p", { text: one.warning })));
  if (!one.figures) {
    section.append(h("p", { text: "No figures: nothing could be held out." }));
  } else {
    const old = one.previous?.figures;
    section.append(
      h("p", {
        text: `On ${count(one.figures.n, "cell")} of held-out ${one.groups === "patient" ? "patients" : "fields"} (${one.validation_groups.join(", ")}); no cell of these was trained on.`,
      }),
      table(
        [
          { title: "", cell: (row) => row.name },
          { title: "Now", class: "n", cell: (row) => h("b", { text: num(row.now, 3) }) },
          ...(old
            ? [
                {
                  title: `Classifier ${one.previous.id}`,
                  class: "n",
                  cell: (row) => num(row.old, 3),
                },
              ]
            : []),
        ],
        [
          { name: "Right", now: one.figures.accuracy, old: old?.accuracy },
          {
            name: "Right, each label counted alike",
            now: one.figures.balanced_accuracy,
            old: old?.balanced_accuracy,
          },
        ],
        { caption: "Figures of the classifier" },
      ),
      h(
        "div",
        { class: "columns" },
        h("div", {}, h("h3", { text: "By label" }), perLabel(one.figures)),
        h("div", {}, h("h3", { text: "Confusion" }), confusion(one)),
      ),
    );
  }
  section.append(
    h(
      "div",
      { class: "row" },
      h("button", {
        text: "Save as JSON",
        onclick: () => download(at(`classifiers/${one.id}.json`)),
      }),
      h("a", { class: "button", href: "#/cards?mode=doubt", text: "Label what it doubts" }),
    ),
  );
  return section;
}

function perLabel({ per_label: rows }) {
  return table(
    [
      { title: "Label", cell: (one) => labelCell(one.label) },
      { title: "Precision", class: "n", cell: (one) => num(one.precision, 2) },
      { title: "Recall", class: "n", cell: (one) => num(one.recall, 2) },
      { title: "Average precision", class: "n", cell: (one) => num(one.average_precision, 2) },
      { title: "Cells", class: "n", cell: (one) => num(one.n, 0) },
    ],
    rows,
    { caption: "Figures by label" },
  );
}

/* Rows: what people said; columns: what the classifier said. The shade is the share of the row. */
function confusion(one) {
  const { confusion: cells, labels } = one.figures;
  const rows = labels.map((label, place) => ({
    label,
    cells: cells[place],
    total: cells[place].reduce((a, b) => a + b, 0),
  }));
  return table(
    [
      { title: "People said", cell: (row) => labelCell(row.label) },
      ...labels.map((label, place) => ({
        title: app.labelName(label),
        class: "n",
        cell: (row) => {
          const share = row.total ? row.cells[place] / row.total : 0;
          return h("span", {
            class: "shade",
            style: { "--share": share.toFixed(2) },
            text: num(row.cells[place], 0),
          });
        },
      })),
    ],
    rows,
    { caption: "Confusion: rows are people, columns the classifier" },
  );
}

function wayOn(training) {
  if (!training.commands?.length) return null;
  return h(
    "section",
    {},
    h("h2", { text: "The way on: train the network" }),
    h("p", {
      text: "The recipe on the screen Statistics holds these labels with their provenance. With it, the network itself is trained in a terminal:",
    }),
    h("pre", { tabindex: "0" }, h("code", { text: training.commands.join("\n") })),
  );
}
