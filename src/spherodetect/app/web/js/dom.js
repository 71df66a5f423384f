/* Builds elements. Text from outside becomes text nodes, never HTML. */

const SVG = "http://www.w3.org/2000/svg";

/* Return an element. `props`: "on..." functions listen, `data` and `style` are objects, `text` is
   the text, true and false set and leave out an attribute; anything else is an attribute. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/* The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "style") {
      for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    } else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/* Replace what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/* A labelled form field: label, control and an optional remark. */
export function labelled(label, control, remark = "") {
  const id = control.id || `f${(labelled.count += 1)}`;
  control.id = id;
  const note = remark ? h("small", { id: `${id}-note`, text: remark }) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "control" }, h("label", { for: id, text: label }), control, note);
}
labelled.count = 0;

/* A number input whose empty value is allowed. */
export function numberInput({ value = "", min, max, step = "any", id, ...rest } = {}) {
  return h("input", { type: "number", inputmode: "decimal", value, min, max, step, id, ...rest });
}

/* A drop-down list of [value, text] pairs. */
export function select(pairs, chosen, props = {}) {
  const options = pairs.map(([value, text]) =>
    h("option", { value, text, selected: String(value) === String(chosen) }),
  );
  return h("select", props, options);
}

/* A table: columns are {title, class, cell(row)}; a cell is text or an element. On a narrow screen it
   scrolls, or its rows become blocks where it `stacks`. */
export function table(columns, rows, { caption, empty = "Nothing yet.", stacks = false } = {}) {
  const head = h(
    "tr",
    {},
    columns.map((c) => h("th", { scope: "col", class: c.class, text: c.title })),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      {},
      columns.map((c, at) => {
        const value = c.cell(row);
        const props = {
          class: c.class,
          ...(at === 0 ? { scope: "row" } : { "data-title": c.title }),
        };
        return h(
          at === 0 ? "th" : "td",
          props,
          value instanceof Node ? value : String(value ?? ""),
        );
      }),
    ),
  );
  if (!rows.length) return h("p", { class: "note", text: empty });
  return h(
    "div",
    {
      class: stacks ? "wide stacks" : "wide",
      tabindex: "0",
      role: "region",
      "aria-label": caption,
    },
    h("table", {}, h("thead", {}, head), h("tbody", {}, body)),
  );
}

/* Numbers as people read them: fixed digits, or a dash where there is none. */
export function num(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  return Number(value).toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/* "1 cell", "2 cells". */
export function count(n, noun) {
  return `${num(n, 0)} ${noun}${n === 1 ? "" : "s"}`;
}
