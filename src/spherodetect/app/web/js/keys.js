/* Keys of the page and of the screen that is shown, and the list of them that `?` opens.

   A key does nothing while the person types: in a text field, a list or an open dialog. */

import { h } from "./dom.js";

const global = [];
let local = [];
let dialog = null;

/* A binding: {keys: ["a", "ctrl+z"], does: "text of the help", run(event)}. `run` returns false for
   a key that it does not use. `hidden` bindings are not listed. */
export function bindEverywhere(...bindings) {
  global.push(...bindings);
}

/* Replace the bindings of the screen. */
export function bindScreen(bindings) {
  local = bindings;
}

/* The name of a key event: "ctrl+shift+z", "?", "arrowleft". Cmd counts as Ctrl. */
function keyName(event) {
  const letter = event.key === " " ? "space" : event.key.toLowerCase();
  const shift = event.shiftKey && (event.ctrlKey || event.metaKey || event.key.length > 1);
  return (
    `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.altKey ? "alt+" : ""}` +
    `${shift ? "shift+" : ""}${letter}`
  );
}

/* Whether an element takes typed text or chooses by letters. */
function takesText(element) {
  if (!(element instanceof HTMLElement)) return false;
  if (element.isContentEditable || element.closest("dialog")) return true;
  if (element instanceof HTMLInputElement) {
    return !["checkbox", "radio", "button", "submit", "range", "color", "file"].includes(
      element.type,
    );
  }
  return element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement;
}

/* Whether the browser itself uses a key on this element: Space and Enter press a button. An element
   in `data-keys="screen"` leaves all keys to the screen. */
function usesItself(element, name) {
  if (element.closest?.('[data-keys="screen"]')) return false;
  if (!["space", "enter", "arrowleft", "arrowright", "arrowup", "arrowdown"].includes(name))
    return false;
  if (["space", "enter"].includes(name) && element.closest?.("button, a, summary, label"))
    return true;
  return element instanceof HTMLInputElement;
}

function onKey(event) {
  if (event.defaultPrevented || event.isComposing || takesText(event.target)) return;
  const name = keyName(event);
  if (usesItself(event.target, name)) return;
  for (const binding of [...local, ...global]) {
    if (!binding.keys.includes(name)) continue;
    if (binding.run(event, name) === false) continue;
    event.preventDefault();
    return;
  }
}

const SHOWN = {
  arrowleft: "\u2190",
  arrowright: "\u2192",
  arrowup: "\u2191",
  arrowdown: "\u2193",
  space: "Space",
  escape: "Esc",
  enter: "Enter",
  tab: "Tab",
  delete: "Del",
  backspace: "\u232b",
};

/* A key as people see it on the keyboard. */
function shownKey(name) {
  return name
    .split("+")
    .map((part) => SHOWN[part] || part.charAt(0).toUpperCase() + part.slice(1))
    .join("+");
}

function listed(title, bindings) {
  const rows = bindings
    .filter((one) => !one.hidden)
    .flatMap((one) => [
      h(
        "dt",
        {},
        one.keys.slice(0, 4).map((name) => h("kbd", { text: shownKey(name) })),
      ),
      h("dd", { text: one.does }),
    ]);
  return rows.length ? [h("h3", { text: title }), h("dl", { class: "keys" }, rows)] : [];
}

/* Open the list of keys. */
export function showKeys() {
  dialog?.remove();
  dialog = h(
    "dialog",
    { class: "help", "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title", text: "Keys" }),
    listed("On this screen", local),
    listed("Everywhere", global),
    h("form", { method: "dialog" }, h("button", { text: "Close" })),
  );
  document.body.append(dialog);
  dialog.showModal();
}

/* Start to listen. */
export function listenToKeys() {
  bindEverywhere({ keys: ["?"], does: "show these keys", run: showKeys });
  document.addEventListener("keydown", onKey);
}
