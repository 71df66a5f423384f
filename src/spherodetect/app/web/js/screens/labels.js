/* Labels: own sets with name, colour, key and meaning. */

import { at, call } from "../api.js";
import { app } from "../app.js";
import { count, h, put, select } from "../dom.js";
import { notify } from "../notify.js";
import { COLOURS, markOf, safeColour } from "../palette.js";

const MEANINGS = [
  ["class", "a class"],
  ["unknown", "not known"],
  ["ignore", "leave out"],
];

export async function open(root) {
  const show = async () => {
    await app.loadLabels();
    draw(root, show);
  };
  await show();
  return app.on("labels", () => {
    if (!root.contains(document.activeElement)) draw(root, show);
  });
}

/* Send a change, show what it led to, and say what was refused. */
async function change(path, method, body, then) {
  try {
    await call(at(path), { method, body });
  } catch (error) {
    notify(error.message, { problem: true });
  }
  await then();
  app.tell("labels");
}

function draw(root, show) {
  const { set } = app;
  const sets = select(
    app.sets.map((one) => [one.id, one.name]),
    set?.id,
    {
      id: "set",
      onchange: () => change(`label-sets/${sets.value}`, "PATCH", { active: true }, show),
    },
  );
  put(
    root,
    h("h1", { text: "Labels" }),
    h("p", {
      class: "note",
      text: "A label keeps what it is when you rename it. It can be deleted as long as nothing was labelled with it. Labels that mean \u201cleave out\u201d are neither counted nor trained; \u201cnot known\u201d is counted apart.",
    }),
    h(
      "div",
      { class: "row" },
      h("div", { class: "control" }, h("label", { for: "set", text: "Set" }), sets),
      setButtons(set, show),
    ),
    set ? labelRows(set, show) : null,
    set ? newLabel(set, show) : null,
  );
}

function setButtons(set, show) {
  const name = h("input", {
    maxlength: 60,
    "aria-label": "Name of a set",
    placeholder: "name",
    autocomplete: "off",
  });
  const wanted = () => {
    if (!name.value.trim()) {
      notify("Give a name first.");
      name.focus();
    }
    return name.value.trim();
  };
  return [
    name,
    h("button", {
      text: "New set",
      onclick: async () => {
        if (!wanted()) return;
        try {
          const made = await call(at("label-sets"), { method: "POST", body: { name: wanted() } });
          await change(`label-sets/${made.set.id}`, "PATCH", { active: true }, show);
        } catch (error) {
          notify(error.message, { problem: true });
        }
      },
    }),
    h("button", {
      text: "Rename set",
      disabled: !set,
      onclick: () => wanted() && change(`label-sets/${set.id}`, "PATCH", { name: wanted() }, show),
    }),
    h("button", {
      text: "Delete set",
      disabled: !set,
      onclick: () => change(`label-sets/${set.id}`, "DELETE", undefined, show),
    }),
  ];
}

function labelRows(set, show) {
  const row = (label, place) => {
    const patch = (body) => change(`labels/${label.id}`, "PATCH", body, show);
    const move = (by) =>
      h("button", {
        class: "quiet",
        text: by < 0 ? "\u2191" : "\u2193",
        "aria-label": `Move ${label.name} ${by < 0 ? "up" : "down"}`,
        disabled: place + by < 0 || place + by >= set.labels.length,
        onclick: () => patch({ position: place + by }),
      });
    return h(
      "tr",
      {},
      h("td", {}, markOf(app.look(label.id), { size: 18 })),
      h(
        "td",
        {},
        h("input", {
          value: label.name,
          maxlength: 60,
          "aria-label": `Name of ${label.name}`,
          onchange: (event) => patch({ name: event.target.value.trim() }),
        }),
      ),
      h(
        "td",
        {},
        h("input", {
          type: "color",
          value: safeColour(label.colour),
          "aria-label": `Colour of ${label.name}`,
          onchange: (event) => patch({ colour: event.target.value }),
        }),
      ),
      h(
        "td",
        {},
        keyInput(label.key, `Key of ${label.name}`, (key) => patch({ key })),
      ),
      h(
        "td",
        {},
        select(MEANINGS, label.meaning, {
          "aria-label": `Meaning of ${label.name}`,
          onchange: (event) => patch({ meaning: event.target.value }),
        }),
      ),
      h("td", { class: "n", text: label.n_used }),
      h(
        "td",
        { class: "n" },
        move(-1),
        move(1),
        h("button", {
          class: "quiet",
          text: "Delete",
          disabled: label.n_used > 0,
          title: label.n_used ? `${count(label.n_used, "cell")} carry it` : "",
          "aria-label": `Delete ${label.name}`,
          onclick: () => change(`labels/${label.id}`, "DELETE", undefined, show),
        }),
      ),
    );
  };
  const head = ["Mark", "Name", "Colour", "Key", "Meaning", "Used", ""].map((title) =>
    title
      ? h("th", { scope: "col", class: title === "Used" ? "n" : "", text: title })
      : h("td", {}),
  );
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": "Labels of this set" },
    h(
      "table",
      { class: "label-table" },
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, set.labels.map(row)),
    ),
  );
}

function keyInput(value, name, changed) {
  return h("input", {
    class: "key-input",
    value: value || "",
    maxlength: 1,
    "aria-label": name,
    autocomplete: "off",
    onchange: (event) => changed(event.target.value || null),
  });
}

function newLabel(set, show) {
  const used = new Set(set.labels.map((label) => label.colour));
  const free = COLOURS.find((colour) => !used.has(colour)) || COLOURS[0];
  const key =
    "123456789".split("").find((one) => !set.labels.some((label) => label.key === one)) || "";
  const name = h("input", { id: "new-name", maxlength: 60, required: true, autocomplete: "off" });
  const colour = h("input", { type: "color", id: "new-colour", value: free });
  const letter = h("input", {
    class: "key-input",
    id: "new-key",
    value: key,
    maxlength: 1,
    autocomplete: "off",
  });
  const meaning = select(MEANINGS, "class", { id: "new-meaning" });
  const field = (title, input) =>
    h("div", { class: "control" }, h("label", { for: input.id, text: title }), input);
  const add = async (event) => {
    event.preventDefault();
    const body = {
      name: name.value.trim(),
      colour: colour.value,
      key: letter.value || null,
      meaning: meaning.value,
    };
    await change(`label-sets/${set.id}/labels`, "POST", body, show);
    document.getElementById("new-name")?.focus();
  };
  return h(
    "form",
    { onsubmit: add },
    h("h2", { text: "New label" }),
    h(
      "div",
      { class: "row" },
      field("Name", name),
      field("Colour", colour),
      field("Key", letter),
      field("Meaning", meaning),
      h("button", { class: "main", text: "Add" }),
    ),
  );
}
