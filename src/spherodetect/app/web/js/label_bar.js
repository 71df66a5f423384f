/* The labels of the active set as buttons with mark, name, key and count. */

import { app } from "./app.js";
import { h, put } from "./dom.js";
import { markOf } from "./palette.js";

/* A bar of the labels and "no label". `give(label)` is called with an id or null; items dropped on
   a button give its label too. */
export class LabelBar {
  constructor({ give, title = "Labels" }) {
    this.give = give;
    this.element = h("div", { class: "labels", role: "group", "aria-label": title });
    this.build();
  }

  build() {
    this.counts = new Map();
    const buttons = [...app.labels, { id: null, name: "No label", key: "0" }].map((label) => {
      const count = h("span", { class: "n" });
      this.counts.set(label.id, count);
      return h(
        "button",
        {
          class: "label",
          data: { label: label.id ?? "" },
          onclick: () => this.give(label.id),
          ondragover: (event) => event.preventDefault(),
          ondrop: (event) => {
            event.preventDefault();
            this.give(label.id);
          },
        },
        label.id === null ? h("span", { class: "mark none" }) : markOf(app.look(label.id)),
        h("span", { class: "word", text: label.name }),
        count,
        label.key ? h("kbd", { text: label.key.toUpperCase() }) : null,
      );
    });
    put(this.element, buttons);
    this.mark(this.marked ?? undefined);
  }

  /* Show how many objects have each label. */
  count(ids) {
    const numbers = new Map();
    for (const id of ids) numbers.set(id, (numbers.get(id) || 0) + 1);
    for (const [id, element] of this.counts) element.textContent = numbers.get(id) || "";
  }

  /* Show one label as chosen; undefined for none. */
  mark(id) {
    this.marked = id;
    for (const button of this.element.children) {
      const mine = id !== undefined && button.dataset.label === String(id ?? "");
      if (id === undefined) button.removeAttribute("aria-pressed");
      else button.setAttribute("aria-pressed", mine);
    }
  }

  /* A binding for each label's key, and 0 for none. */
  bindings() {
    const keyed = app.labels.filter((label) => label.key);
    const none = keyed.some((label) => label.key === "0") ? ["delete"] : ["0", "delete"];
    return [
      ...keyed.map((label) => ({
        keys: [label.key.toLowerCase()],
        does: label.name,
        run: () => this.give(label.id),
      })),
      { keys: none.slice(0, 1), does: "no label", run: () => this.give(null) },
    ];
  }
}
