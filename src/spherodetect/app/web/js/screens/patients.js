/* Patients: status, score with its interval, fields, reviewed cells; and the queue. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, num, put, table } from "../dom.js";
import { runJob } from "../jobs.js";
import { notify } from "../notify.js";
import { openQueue } from "./queue.js";

export async function open(root, { id, query }) {
  if (id === "queue") return openQueue(root, query);
  const ended = new AbortController();
  await show(root, ended.signal);
  const again = () => show(root, ended.signal).catch(() => {});
  const ends = [
    app.on("kinds", (kinds) => {
      if (kinds.some((kind) => ["fields", "review", "queue", "scale"].includes(kind))) again();
    }),
    app.on("fields", again),
    app.on("reset", again),
  ];
  return () => {
    ended.abort();
    ends.forEach((end) => end());
  };
}

async function show(root, signal) {
  const { patients, research_use: researchUse } = await call(at("patients"), { signal });
  const most = Math.max(10, ...patients.map((one) => one.hs_score_high || 0));
  const axis = Math.min(100, Math.ceil(most / 10) * 10);
  put(
    root,
    h("div", { class: "row middle spread" }, h("h1", { text: "Patients" }), addButtons(signal)),
    table(
      [
        {
          title: "Patient",
          cell: (one) =>
            h("a", {
              href: `#/cards?patient=${encodeURIComponent(one.patient)}`,
              text: one.patient || "no name",
            }),
        },
        {
          title: "HS score",
          class: "n",
          // A score of an unknown stain or too few cells does not stand out.
          cell: (one) =>
            h(one.status === "ok" ? "b" : "span", {
              text: one.hs_score === null ? "\u2013" : `${num(one.hs_score)} %`,
            }),
        },
        {
          title: "95 % interval",
          class: "n",
          cell: (one) =>
            one.hs_score === null
              ? "\u2013"
              : `${num(one.hs_score_low)} to ${num(one.hs_score_high)}`,
        },
        { title: `0 to ${axis} %`, class: "scale-cell", cell: (one) => interval(one, axis) },
        { title: "Basis", cell: (one) => one.basis || "\u2013" },
        { title: "Status", cell: status },
        { title: "Fields", class: "n", cell: (one) => fieldsText(one) },
        { title: "Countable", class: "n", cell: (one) => num(one.n_countable, 0) },
        { title: "Labelled", class: "n", cell: (one) => num(one.n_labelled, 0) },
        { title: "Reviewed", class: "n", cell: reviewed },
        { title: "Queue", class: "n", cell: queue },
      ],
      patients,
      {
        caption: "Patients",
        stacks: true,
        empty:
          "No photograph is here yet. Add some, or put folders of photographs, one a patient, into the project's folder and press Look for new files.",
      },
    ),
    patients.length
      ? h("p", {
          class: "note",
          text: "HS score: spherocytes in 100 countable red cells. Basis: what the score rests on, the model alone or a person's review. Grey lines: 5 and 20 %.",
        })
      : null,
    problems(),
    h("footer", { class: "narrow" }, h("p", {}, h("strong", { text: researchUse }))),
  );
}

function interval(one, axis) {
  const box = h(
    "div",
    { class: "axis small" },
    [5, 20]
      .filter((limit) => limit < axis)
      .map((limit) => h("span", { class: "limit", style: { left: `${(100 * limit) / axis}%` } })),
  );
  if (one.hs_score === null) return box;
  const place = (value) => `${(100 * Math.min(value, axis)) / axis}%`;
  box.append(
    h("span", {
      class: "reach",
      style: { left: place(one.hs_score_low), width: place(one.hs_score_high - one.hs_score_low) },
    }),
    h("span", { class: "point", style: { left: place(one.hs_score) } }),
  );
  return box;
}

function status(one) {
  const text = (one.status || "\u2013").replaceAll("_", " ");
  return h("span", {
    class: one.status && one.status !== "ok" ? "problem" : "",
    title: one.status_text || "",
    text,
  });
}

function fieldsText(one) {
  const rejected = one.n_fields_rejected ? `, ${one.n_fields_rejected} rejected` : "";
  const empty = one.n_fields - one.n_segmented;
  return `${num(one.n_fields, 0)}${rejected}${empty > 0 ? `, ${empty} open` : ""}`;
}

function reviewed(one) {
  const href = `#/review${one.reviews?.length ? `/${one.reviews[0]}` : `?patient=${encodeURIComponent(one.patient)}`}`;
  const text = one.n_reviewed ? num(one.n_reviewed, 0) : "Review";
  const says = one.n_reviewed ? `${text} reviewed cells of` : text;
  return h("a", { href, text, "aria-label": `${says} ${one.patient}` });
}

function queue(one) {
  if (!one.n_queued) return "0";
  return h("a", {
    href: `#/patients/queue?patient=${encodeURIComponent(one.patient)}`,
    text: num(one.n_queued, 0),
  });
}

function problems() {
  const list = app.session.problems || [];
  if (!list.length) return null;
  return h(
    "section",
    {},
    h("h2", { text: `Left out (${list.length})` }),
    list.map((text) => h("p", { class: "problem", text })),
  );
}

/* Photographs from this computer, and from the project's folder. */
function addButtons(signal) {
  const file = h("input", {
    type: "file",
    multiple: true,
    accept: "image/*,.tif,.tiff",
    class: "unseen",
    id: "photographs",
    tabindex: "-1",
    "aria-label": "Photographs",
    onchange: () => add([...file.files]),
  });
  const add = async (files) => {
    const patient = await askPatient(files);
    if (!patient) return;
    let added = 0;
    for (const [place, one] of files.entries()) {
      notify(`Adding ${one.name}, ${place + 1} of ${files.length}.`);
      try {
        await call(at("fields", { patient, name: one.name }), {
          method: "POST",
          body: one,
          signal,
          timeout: 120000,
        });
        added += 1;
      } catch (error) {
        notify(error.message, { problem: true });
      }
    }
    app.fieldList = null;
    notify(`${count(added, "photograph")} added.`);
    app.tell("fields", []);
  };
  const scan = () => runJob("fields/scan", {}, { signal });
  return h(
    "div",
    { class: "row" },
    file,
    h("button", { text: "Add photographs", onclick: () => file.click() }),
    h("button", { text: "Look for new files", onclick: scan }),
  );
}

/* Ask to whom the photographs belong; an empty text where nobody is to be added. */
function askPatient(files) {
  return new Promise((resolve) => {
    const input = h("input", {
      id: "patient-name",
      maxlength: 60,
      required: true,
      autocomplete: "off",
    });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "whose" },
      h("h2", { id: "whose", text: `${count(files.length, "photograph")}: whose?` }),
      h(
        "form",
        { method: "dialog", onsubmit: () => resolve(input.value.trim()) },
        h("p", {}, h("label", { for: "patient-name", text: "Patient, or group of objects" })),
        h(
          "div",
          { class: "row" },
          input,
          h("button", { class: "main", text: "Add" }),
          h("button", { type: "button", text: "Cancel", onclick: () => dialog.close() }),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      resolve("");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
