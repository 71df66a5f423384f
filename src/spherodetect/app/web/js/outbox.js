/* What a person did and the server has not stored yet.

   Every entry is kept in localStorage under a name of its own before it is sent, so that neither a
   reload nor another tab loses it. It is removed once the server answered for it. Steps carry a key
   of the browser, so that a second sending changes nothing. */

import { Away, Refused } from "./api.js";

const BATCH = 100,
  WAIT_MS = [300, 600, 1200, 2400];
/* Refusals of the caller, not of the steps: no token, another host, too much, a full disk. */
const NOT_THE_STEPS = [401, 403, 408, 429, 507];

export class Outbox {
  /* `send(entries)` returns a promise; an entry is {reviewer, step}. `project` tells queues apart. */
  constructor(project, send) {
    this.prefix = `spherodetect outbox ${project} `;
    this.send = send;
    this.queue = new Map();
    this.failures = 0;
    this.number = 0;
    this.busy = false;
    this.timer = 0;
    this.problem = "";
    this.onChange = () => {};
    this.onRefused = () => {};
    for (const name of Object.keys(localStorage)) this.take(name, localStorage.getItem(name));
    window.addEventListener("online", () => this.soon(0));
    window.addEventListener("storage", (event) => {
      if (event.key) this.take(event.key, event.newValue);
      this.onChange();
    });
  }

  /* Follow what storage holds, also what other tabs put there. */
  take(name, text) {
    if (!name.startsWith(this.prefix)) return;
    if (text === null) this.queue.delete(name);
    else this.queue.set(name, JSON.parse(text));
  }

  get names() {
    return [...this.queue.keys()].sort();
  }

  /* The waiting entries in the order in which they were made. */
  get entries() {
    return this.names.map((name) => this.queue.get(name));
  }

  get size() {
    return this.queue.size;
  }

  /* Whether the last attempt failed. */
  get away() {
    return this.failures > 0;
  }

  add(entry) {
    this.number += 1;
    const order = `${String(Date.now()).padStart(14, "0")}-${String(this.number).padStart(6, "0")}`;
    const name = `${this.prefix}${order} ${entry.step.key}`;
    this.queue.set(name, entry);
    try {
      localStorage.setItem(name, JSON.stringify(entry));
    } catch {
      // No room, or storage is off: the entry lives as long as this tab.
    }
    this.onChange();
    if (!this.away) this.soon(0);
  }

  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), ms);
  }

  /* Send what waits, in order, until nothing is left or the server is away. */
  async flush() {
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.size) {
        await this.sendSome(this.ofOneReviewer());
        this.failures = 0;
      }
    } catch (error) {
      if (!(error instanceof Away || error instanceof Refused)) throw error;
      this.problem = error.message;
      this.soon(WAIT_MS[Math.min(this.failures, WAIT_MS.length - 1)]);
      this.failures += 1;
    } finally {
      this.busy = false;
      this.onChange();
    }
  }

  /* The first names, up to the first entry of another reviewer. */
  ofOneReviewer() {
    const some = this.names.slice(0, BATCH);
    const { reviewer } = this.queue.get(some[0]);
    const other = some.findIndex((name) => this.queue.get(name).reviewer !== reviewer);
    return other > 0 ? some.slice(0, other) : some;
  }

  /* Send entries; if the server refuses them together, one by one, and drop the refused one. */
  async sendSome(names) {
    const entries = names.map((name) => this.queue.get(name));
    try {
      await this.send(entries);
    } catch (error) {
      if (!(error instanceof Refused) || NOT_THE_STEPS.includes(error.status)) throw error;
      if (names.length > 1) {
        for (const name of names) await this.sendSome([name]);
        return;
      }
      this.onRefused(error.message, entries[0]);
    }
    for (const name of names) {
      this.queue.delete(name);
      localStorage.removeItem(name);
    }
    this.onChange();
  }
}
