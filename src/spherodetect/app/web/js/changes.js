/* Asks the server what changed: other tabs, other reviewers, jobs. */

import { at, Away, call, Refused } from "./api.js";
import { app } from "./app.js";
import { allWithPending, sendWaiting } from "./steps.js";

const SHOWN_MS = 1000,
  HIDDEN_MS = 5000;
let cursor = 0;
let blind = false;

/* While a blind page is shown, nothing about objects is asked for. */
export function setBlind(on) {
  blind = on;
}

export function watchChanges() {
  cursor = app.session.cursor;
  let timer = 0;
  async function ask() {
    clearTimeout(timer);
    await askOnce();
    timer = setTimeout(ask, document.hidden ? HIDDEN_MS : SHOWN_MS);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  ask();
}

async function askOnce() {
  const asksAll = !blind;
  try {
    const news = asksAll ? await call(at("changes", { since: cursor })) : await call(at("jobs"));
    const wasAway = app.away;
    app.away = "";
    app.jobs = news.jobs;
    if (asksAll) await hear(news);
    if (wasAway) sendWaiting();
  } catch (error) {
    if (!(error instanceof Away || error instanceof Refused)) throw error;
    app.away = error.message;
  }
  app.tell("state");
}

async function hear(news) {
  cursor = news.cursor;
  if (news.reset || news.kinds.includes("labels")) {
    await app.loadLabels();
    app.tell("labels");
  }
  if (
    news.reset ||
    news.fields.length ||
    news.kinds.some((kind) => ["fields", "scale"].includes(kind))
  ) {
    app.fieldList = null;
    app.session = await call(at("session"));
  }
  if (news.objects.length) app.tell("objects", allWithPending(news.objects));
  if (news.reset) app.tell("reset");
  if (news.fields.length) app.tell("fields", news.fields);
  if (news.kinds.length) app.tell("kinds", news.kinds);
}
