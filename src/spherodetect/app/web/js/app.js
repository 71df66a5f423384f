/* What all screens share: the project, the reviewer, label sets, and news of what changed.

   News are events of `app`: "objects" (records as they are now), "labelled" (items that the person
   labelled just now), "fields" (ids found anew), "kinds" (names of lists), "state" (header). */

import { at, call } from "./api.js";
import { looksOf, UNLABELLED } from "./palette.js";

class App extends EventTarget {
  constructor() {
    super();
    this.session = null;
    this.sets = [];
    this.labels = [];
    this.looks = new Map();
    this.jobs = [];
    this.away = "";
    this.reviewer = remembered("reviewer") || "";
  }

  /* Listen to news; returns a function that ends it. */
  on(name, heard) {
    const listener = (event) => heard(event.detail);
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async start() {
    this.session = await call(at("session"));
    await this.loadLabels();
  }

  async loadLabels() {
    const { active, sets } = await call(at("label-sets"));
    this.sets = sets;
    this.set = sets.find((one) => one.id === active) || sets[0];
    this.labels = this.set ? this.set.labels : [];
    this.looks = looksOf(this.labels);
    this.byId = new Map(this.labels.map((label) => [label.id, label]));
  }

  /* The fields of the project in their order; asked for once, and again when they changed. */
  async fields({ fresh = false } = {}) {
    if (!this.fieldList || fresh) this.fieldList = (await call(at("fields"))).fields;
    return this.fieldList;
  }

  label(id) {
    return this.byId?.get(id) || null;
  }

  labelName(id) {
    return id === null || id === undefined
      ? "no label"
      : this.label(id)?.name || "label of another set";
  }

  look(id) {
    return this.looks.get(id) || UNLABELLED;
  }

  /* The label that an object shows: the person's, else the classifier's, else the model's. */
  shown(object) {
    return object.label ?? object.classifier?.label ?? object.model?.label ?? null;
  }

  setReviewer(name) {
    this.reviewer = name.trim().slice(0, 60);
    remember("reviewer", this.reviewer);
    this.tell("state");
  }
}

/* A tab keeps its reviewer, so that two people can work in two tabs; a new tab takes the last. */
function remembered(name) {
  try {
    return (
      sessionStorage.getItem(`spherodetect ${name}`) || localStorage.getItem(`spherodetect ${name}`)
    );
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    sessionStorage.setItem(`spherodetect ${name}`, value);
    localStorage.setItem(`spherodetect ${name}`, value);
  } catch {
    // Storage is off: the name lives as long as the page.
  }
}

export const app = new App();
