/* Photographs of fields and sheets of crops, each asked for once while it is in use. */

import { at, picture } from "./api.js";

const FIELDS_KEPT = 3,
  SHEETS_KEPT = 60,
  SHEET_COLUMNS = 10;
const fields = new Map();
const sheets = new Map();

/* A promise of the photograph of a field. The last few are kept. */
export function fieldImage(id) {
  return kept(fields, id, FIELDS_KEPT, () => picture(at(`fields/${id}/image`)));
}

function kept(cache, key, most, load) {
  let promise = cache.get(key);
  cache.delete(key);
  if (!promise) {
    promise = load();
    promise.catch(() => cache.delete(key));
  }
  cache.set(key, promise);
  if (cache.size > most) cache.delete(cache.keys().next().value);
  return promise;
}

/* Crops of objects, fetched in sheets for those that are drawn in the same moment. */
export class Crops {
  constructor({ size, diameters, per = 40 }) {
    Object.assign(this, { size, diameters, per });
    this.places = new Map();
    this.wanted = new Map();
    this.timer = 0;
    this.ended = new AbortController();
  }

  close() {
    clearTimeout(this.timer);
    this.ended.abort();
  }

  /* Draw the crop of an object into a canvas, now or when it comes. */
  draw(canvas, id) {
    canvas.dataset.object = id;
    if (this.places.has(id)) return this.paint(canvas, id);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    this.wanted.set(id, canvas);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fetch(), 30);
    return undefined;
  }

  fetch() {
    // What scrolled away before it was asked for is not asked for.
    const open = [...this.wanted].filter(
      ([id, canvas]) => canvas.isConnected && canvas.dataset.object === String(id),
    );
    this.wanted.clear();
    for (let first = 0; first < open.length; first += this.per) {
      this.fetchSheet(open.slice(first, first + this.per));
    }
  }

  async fetchSheet(some) {
    const objects = some.map(([id]) => id).join(",");
    const path = at("crops", { objects, size: this.size, diameters: this.diameters });
    const sheet = picture(path, { signal: this.ended.signal });
    some.forEach(([id], place) => this.places.set(id, { path, place }));
    kept(sheets, path, SHEETS_KEPT, () => sheet);
    try {
      await sheet;
    } catch (error) {
      some.forEach(([id]) => this.places.delete(id));
      if (this.ended.signal.aborted) return;
      throw error;
    }
    for (const [id, canvas] of some) this.paint(canvas, id);
  }

  async paint(canvas, id) {
    const { path, place } = this.places.get(id);
    if (!sheets.has(path)) {
      this.places.delete(id);
      this.draw(canvas, id);
      return;
    }
    const sheet = await sheets.get(path);
    if (canvas.dataset.object === String(id)) drawCrop(canvas, sheet, place, this.size);
  }
}

/* Draw one crop of a sheet over a whole canvas. */
export function drawCrop(canvas, sheet, place, size) {
  const x = (place % SHEET_COLUMNS) * size,
    y = Math.floor(place / SHEET_COLUMNS) * size;
  canvas.getContext("2d").drawImage(sheet, x, y, size, size, 0, 0, canvas.width, canvas.height);
}
