/* Starts the page, and shows the screen that the address names: #/screen/what?name=value. */

import { app } from "./app.js";
import { watchChanges } from "./changes.js";
import { h, put } from "./dom.js";
import { askReviewer, buildHeader, markScreen } from "./header.js";
import { bindEverywhere, bindScreen, listenToKeys } from "./keys.js";
import { notify } from "./notify.js";
import { redo, startSteps, undo } from "./steps.js";

const SCREENS = [
  ["patients", "Patients"],
  ["scale", "Scale"],
  ["segment", "Segment"],
  ["labels", "Labels"],
  ["field", "Field"],
  ["cards", "Cards"],
  ["review", "Review"],
  ["train", "Train"],
  ["embedding", "Embedding"],
  ["statistics", "Statistics"],
];
const TITLES = new Map(SCREENS);
let shown = 0;
let close = () => {};

/* The parts of the address: {name, id, query}. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/");
  return {
    name: TITLES.has(name) ? name : "patients",
    id,
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

async function show() {
  const wanted = route();
  shown += 1;
  const mine = shown;
  close();
  close = () => {};
  bindScreen([]);
  markScreen(wanted.name);
  document.title = `${TITLES.get(wanted.name)} \u2013 ${app.session.project} \u2013 spherodetect`;
  const old = document.getElementById("screen");
  const root = h("main", { id: "screen", tabindex: "-1", data: { screen: wanted.name } });
  old.replaceWith(root);
  try {
    const module = await import(`./screens/${wanted.name}.js`);
    const end = (await module.open(root, wanted)) || (() => {});
    if (mine === shown) close = end;
    else end();
  } catch (error) {
    if (mine !== shown) return;
    put(
      root,
      h("h1", { text: TITLES.get(wanted.name) }),
      h("p", { class: "problem", text: error.message }),
      h("button", { text: "Try again", onclick: show }),
    );
    console.error(error);
  }
}

async function start() {
  try {
    await app.start();
  } catch (error) {
    put(
      document.getElementById("screen"),
      h("h1", { text: "spherodetect" }),
      h("p", { class: "problem", text: error.message }),
      h("button", { text: "Try again", onclick: start }),
    );
    return;
  }
  buildHeader(SCREENS);
  bindEverywhere(
    { keys: ["ctrl+z"], does: "undo", run: undo },
    { keys: ["ctrl+shift+z", "ctrl+y"], does: "redo", run: redo },
  );
  listenToKeys();
  startSteps();
  window.addEventListener("hashchange", show);
  // A screen that had nothing to show shows the photographs that came.
  app.on("kinds", (kinds) => {
    if (kinds.includes("fields") && document.querySelector("main [data-empty]")) show();
  });
  window.addEventListener("unhandledrejection", (event) => {
    if (event.reason?.name !== "AbortError" && event.reason?.message) {
      notify(event.reason.message, { problem: true });
    }
  });
  await show();
  // After the screen: a blind one must not ask for changes.
  watchChanges();
  if (!app.reviewer) askReviewer();
}

start();
