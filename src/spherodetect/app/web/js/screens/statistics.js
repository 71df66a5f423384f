/* Statistics by label, field and patient; export and import. */

import { at, call, download } from "../api.js";
import { app } from "../app.js";
import { count, h, num, put, table } from "../dom.js";
import { runJob } from "../jobs.js";
import { notify } from "../notify.js";
import { markOf } from "../palette.js";

const BY = [
  ["label", "By label"],
  ["patient", "By patient"],
  ["field", "By field"],
];
const FILES = [
  ["coco.json", "COCO", "outlines and labels, for other programs"],
  ["cells.csv", "Cells, CSV", "a row a cell"],
  ["statistics.csv", "Statistics, CSV", "these tables"],
  ["recipe.zip", "Recipe", "for records and training, with provenance"],
];

export async function open(root, { id }) {
  const ended = new AbortController();
  const by = BY.some(([name]) => name === id) ? id : "label";
  const holder = h("div");
  const show = async () =>
    put(holder, statistics(await call(at("statistics", { by }), { signal: ended.signal })));
  put(
    root,
    h("h1", { text: "Statistics and export" }),
    h(
      "div",
      { class: "tabs" },
      BY.map(([name, title]) =>
        h("a", {
          class: "button",
          href: `#/statistics/${name}`,
          "aria-current": name === by ? "page" : undefined,
          text: title,
        }),
      ),
    ),
    holder,
    exportSection(ended.signal),
    importSection(show),
  );
  await show();
  return () => ended.abort();
}

function statistics({ by, unit, rows }) {
  const size = [
    { title: `Diameter, ${unit}`, class: "n", cell: (row) => num(row.diameter_mean, 2) },
    { title: "SD", class: "n", cell: (row) => num(row.diameter_sd, 2) },
    { title: "Median", class: "n", cell: (row) => num(row.diameter_median, 2) },
    { title: `Area, ${unit}\u00b2`, class: "n", cell: (row) => num(row.area_mean, 1) },
  ];
  if (by === "label") {
    return table(
      [
        {
          title: "Label",
          cell: (row) =>
            h(
              "span",
              { class: "named" },
              app.label(row.label) ? markOf(app.look(row.label)) : null,
              " ",
              row.name,
            ),
        },
        { title: "Cells", class: "n", cell: (row) => num(row.n, 0) },
        { title: "Per cent", class: "n", cell: (row) => h("b", { text: num(row.percent) }) },
        { title: "by people", class: "n", cell: (row) => num(row.n_human, 0) },
        ...size,
      ],
      rows,
      {
        caption: "Statistics by label",
        empty: "No cell yet. Find outlines on the screen Segment.",
      },
    );
  }
  const used = app.labels.filter((label) => rows.some((row) => row.counts?.[label.id]));
  return table(
    [
      { title: by === "field" ? "Field" : "Patient", cell: (row) => row.name },
      { title: "Cells", class: "n", cell: (row) => num(row.n, 0) },
      ...used.map((label) => ({
        title: label.name,
        class: "n",
        cell: (row) => share(row, label.id),
      })),
      ...size,
    ],
    rows,
    { caption: `Statistics by ${by}`, empty: "No cell yet. Find outlines on the screen Segment." },
  );
}

function share(row, label) {
  const n = row.counts[label] || 0;
  return h(
    "span",
    {},
    num(n, 0),
    h("small", { class: "soft", text: row.n ? ` ${num((100 * n) / row.n)} %` : "" }),
  );
}

function exportSection(signal) {
  const save = async (name) => {
    try {
      await download(at(`exports/${name}`));
    } catch (error) {
      notify(error.message, { problem: true });
    }
  };
  const said = h("p", { class: "note", role: "status" });
  const reports = h("button", {
    text: "Rewrite the reports",
    onclick: async () => {
      if (!app.reviewer) return app.tell("who");
      try {
        const result = await runJob("exports/reports", { reviewer: app.reviewer }, { signal });
        if (result)
          said.textContent = `${count(result.files.length, "file")} written to the folder ${result.folder} of the project. ${result.problems.join(" ")}`;
      } catch (error) {
        if (!signal.aborted) notify(error.message, { problem: true });
      }
      return undefined;
    },
  });
  const backup = h("button", {
    text: "Back up the labels",
    onclick: async () => {
      const { file } = await call(at("backup"), { method: "POST" });
      said.textContent = `Written: ${file}, in the project's folder.`;
    },
  });
  return h(
    "section",
    {},
    h("h2", { text: "Export" }),
    h(
      "dl",
      { class: "files" },
      FILES.flatMap(([name, title, means]) => [
        h("dt", {}, h("button", { text: title, data: { file: name }, onclick: () => save(name) })),
        h("dd", { text: means }),
      ]),
      h("dt", {}, reports),
      h("dd", { text: "the reports of all patients, with what was corrected and reviewed" }),
      h("dt", {}, backup),
      h("dd", { text: "a copy of the database with all labels and who gave them" }),
    ),
    said,
  );
}

function importSection(show) {
  const said = h("p", { class: "note", role: "status" });
  const file = h("input", {
    type: "file",
    accept: ".json,application/json",
    class: "unseen",
    tabindex: "-1",
    "aria-label": "COCO file",
    onchange: async () => {
      if (!app.reviewer) return app.tell("who");
      try {
        const body = new Blob([file.files[0]], { type: "application/json" });
        const result = await call(at("imports/coco", { reviewer: app.reviewer }), {
          method: "POST",
          body,
          timeout: 120000,
        });
        said.textContent = `${count(result.n_labelled, "label")}: ${num(result.n_attached, 0)} on known outlines, ${num(result.n_new, 0)} on new ones. ${result.problems.join(" ")}`;
        await app.loadLabels();
        await show();
      } catch (error) {
        notify(error.message, { problem: true });
      }
      file.value = "";
      return undefined;
    },
  });
  return h(
    "section",
    {},
    h("h2", { text: "Import" }),
    file,
    h(
      "div",
      { class: "row middle" },
      h("button", { text: "COCO file", onclick: () => file.click() }),
      h("span", {
        class: "note",
        text: "labels of this project, exported before or made elsewhere on the same photographs",
      }),
    ),
    said,
  );
}
