/* The header of every screen: project, reviewer, what is saved, jobs, undo, and the screens. */

import { app } from "./app.js";
import { h, put } from "./dom.js";
import { cancelJob } from "./jobs.js";
import { showKeys } from "./keys.js";
import { notify } from "./notify.js";
import { redo, stepState, undo } from "./steps.js";

let parts = null;

/* Build the header once; `screens` are [name, title] pairs. */
export function buildHeader(screens) {
  const make = (tag, props) => h(tag, props);
  parts = {
    who: make("button", { class: "quiet", onclick: askReviewer }),
    lost: make("span", { class: "problem" }),
    saved: make("span", { class: "saved", id: "saved" }),
    jobs: make("div", { class: "jobs", id: "jobs" }),
    undo: make("button", { class: "quiet", text: "Undo", title: "Ctrl+Z", onclick: undo }),
    redo: make("button", { class: "quiet", text: "Redo", title: "Ctrl+Shift+Z", onclick: redo }),
    nav: h(
      "nav",
      { "aria-label": "Screens" },
      screens.map(([name, title]) =>
        h("a", { href: `#/${name}`, data: { screen: name }, text: title }),
      ),
    ),
  };
  put(
    document.getElementById("top"),
    h(
      "div",
      { class: "state" },
      h(
        "div",
        { class: "project" },
        h("span", { class: "over", text: "spherodetect" }),
        h("b", { text: app.session.project, title: app.session.project }),
      ),
      parts.jobs,
      parts.lost,
      parts.saved,
      parts.who,
      h(
        "div",
        { class: "group" },
        parts.undo,
        parts.redo,
        h(
          "button",
          { class: "quiet", "aria-label": "Keys", title: "Keys", onclick: showKeys },
          h("kbd", { text: "?" }),
        ),
      ),
    ),
    h(
      "div",
      { class: "screens" },
      parts.nav,
      h("span", {
        class: "ruo",
        text: "For Research Use Only. Not for use in diagnostic procedures.",
      }),
    ),
  );
  app.on("state", showState);
  app.on("who", () => askReviewer());
  showState();
}

/* Mark the screen that is shown. */
export function markScreen(name) {
  for (const link of parts.nav.children) {
    if (link.dataset.screen === name) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
}

function showState() {
  const { unsaved, away, problem, canUndo, canRedo } = stepState();
  const lost = app.away || (away ? problem : "");
  const text = unsaved ? `${unsaved} not saved` : "saved";
  if (parts.saved.textContent !== text) parts.saved.textContent = text;
  parts.saved.classList.toggle("open", unsaved > 0);
  parts.saved.title = lost ? `${lost} What you do is kept in this browser and sent later.` : "";
  parts.lost.hidden = !lost;
  parts.lost.textContent = lost;
  parts.who.textContent = app.reviewer || "Who are you?";
  parts.who.title = "Reviewer; click to change";
  parts.undo.disabled = !canUndo;
  parts.redo.disabled = !canRedo;
  showJobs();
}

function showJobs() {
  const running = app.jobs.filter((job) => ["waiting", "running"].includes(job.state));
  const shown = new Map([...parts.jobs.children].map((element) => [element.dataset.job, element]));
  for (const job of running) {
    const element = shown.get(job.id) || parts.jobs.appendChild(jobElement(job));
    shown.delete(job.id);
    const bar = element.querySelector("progress");
    if (job.total) Object.assign(bar, { max: job.total, value: job.done });
    const state = job.state === "waiting" ? "waiting" : `${job.done} of ${job.total ?? "?"}`;
    element.querySelector("span").textContent = `${job.title}: ${state}`;
  }
  for (const element of shown.values()) element.remove();
}

function jobElement(job) {
  const cancel = async () => {
    try {
      await cancelJob(job.id);
    } catch (error) {
      notify(error.message, { problem: true });
    }
  };
  return h(
    "div",
    { class: "job", data: { job: job.id } },
    h("span"),
    h("progress", { "aria-label": job.title }),
    h("button", { class: "quiet", text: "Cancel", onclick: cancel }),
  );
}

/* Ask for the reviewer's name. */
export function askReviewer() {
  if (document.querySelector("dialog[open]")) return;
  const names = app.session.reviewers;
  const input = h("input", {
    id: "reviewer",
    maxlength: 60,
    autocomplete: "off",
    spellcheck: "false",
    value: app.reviewer,
    list: "reviewers",
    required: true,
  });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "who" },
    h("h2", { id: "who", text: "Reviewer" }),
    h(
      "form",
      {
        method: "dialog",
        onsubmit: () => {
          app.setReviewer(input.value);
          app.tell("reviewer");
        },
      },
      h(
        "p",
        {},
        h("label", { for: "reviewer", text: "Name or initials. Every label is stored with them." }),
      ),
      h(
        "datalist",
        { id: "reviewers" },
        names.map((name) => h("option", { value: name })),
      ),
      h(
        "div",
        { class: "row" },
        input,
        h("button", { class: "main", text: "Go on" }),
        h("button", { type: "button", text: "Cancel", onclick: () => dialog.close() }),
      ),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  input.select();
}
