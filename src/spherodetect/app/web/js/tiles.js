/* A grid of thousands of tiles of which only those in view are elements.

   Items are {id, ...} in groups {title, items}. The grid is a listbox: it keeps the focus, and the
   active tile is named by aria-activedescendant. */

import { h } from "./dom.js";

const SPARE_ROWS = 2,
  HEAD_PX = 38;

export class Tiles {
  /* `tile` is {least, foot, gap} in pixels: tiles are at least so wide, and higher by `foot`.
     `make()` returns a tile's element, `draw(element, item)` fills it, and `name(item)` is its name
     for screen readers. */
  constructor({ tile, make, draw, name, label, onActive = () => {} }) {
    Object.assign(this, { tile, make, draw, name, onActive });
    this.inner = h("div", { class: "tiles-inner" });
    this.element = h(
      "div",
      {
        class: "tiles",
        tabindex: "0",
        role: "listbox",
        "aria-multiselectable": "true",
        "aria-label": label,
      },
      this.inner,
    );
    this.items = [];
    this.rows = [];
    this.shown = new Map();
    this.heads = new Map();
    this.spare = [];
    this.selected = new Set();
    this.active = 0;
    this.hovered = -1;
    this.anchor = 0;
    this.element.addEventListener("scroll", () => this.render(), { passive: true });
    this.element.addEventListener("pointerover", (event) => this.hover(event));
    this.element.addEventListener("pointerleave", () => {
      this.hovered = -1;
    });
    this.element.addEventListener("click", (event) => this.click(event));
    this.watcher = new ResizeObserver(() => this.layOut());
    this.watcher.observe(this.element);
  }

  close() {
    this.watcher.disconnect();
  }

  /* Show other groups; the selection and the active tile stay where their items are still there. */
  setGroups(groups) {
    const before = this.items[this.active]?.id;
    this.groups = groups;
    this.items = groups.flatMap((group) => group.items);
    this.place = new Map(this.items.map((item, at) => [item.id, at]));
    this.selected = new Set([...this.selected].filter((id) => this.place.has(id)));
    this.active = this.place.get(before) ?? 0;
    this.hovered = -1;
    this.layOut();
  }

  layOut() {
    const width = this.element.clientWidth;
    if (!width || !this.groups) return;
    const { least, foot, gap } = this.tile;
    this.columns = Math.max(1, Math.floor((width - gap) / (least + gap)));
    this.side = Math.floor((width - gap) / this.columns) - gap;
    const height = this.side + foot;
    this.rows = [];
    let top = gap,
      first = 0;
    for (const group of this.groups) {
      if (group.title) {
        this.rows.push({ top, height: HEAD_PX, title: group.title });
        top += HEAD_PX;
      }
      for (let at = 0; at < group.items.length; at += this.columns) {
        const n = Math.min(this.columns, group.items.length - at);
        this.rows.push({ top, height: height + gap, first: first + at, n });
        top += height + gap;
      }
      first += group.items.length;
    }
    this.inner.style.height = `${top}px`;
    for (const at of [...this.shown.keys()]) this.recycle(at);
    for (const head of this.heads.values()) head.remove();
    this.heads.clear();
    this.render();
  }

  /* Make elements for the rows in view, and take away those that left it. */
  render() {
    const reach = SPARE_ROWS * (this.side + this.tile.foot);
    const low = this.element.scrollTop - reach;
    const high = this.element.scrollTop + this.element.clientHeight + reach;
    const wanted = new Set(),
      heads = new Set();
    for (const row of this.rows) {
      if (row.top + row.height < low || row.top > high) continue;
      if (row.title) {
        heads.add(row);
        if (!this.heads.has(row)) this.heads.set(row, this.drawHead(row));
        continue;
      }
      for (let i = 0; i < row.n; i += 1) {
        wanted.add(row.first + i);
        if (!this.shown.has(row.first + i)) this.drawTile(row.first + i, row.top, i);
      }
    }
    for (const at of [...this.shown.keys()]) if (!wanted.has(at)) this.recycle(at);
    for (const [row, head] of [...this.heads]) {
      if (heads.has(row)) continue;
      head.remove();
      this.heads.delete(row);
    }
    this.nameActive();
  }

  drawHead(row) {
    const head = h(
      "div",
      { class: "tiles-head", role: "presentation", style: { top: `${row.top}px` } },
      row.title,
    );
    this.inner.append(head);
    return head;
  }

  drawTile(at, top, column) {
    const element = this.spare.pop() || this.make();
    const { gap, foot } = this.tile;
    Object.assign(element.style, {
      top: `${top}px`,
      left: `${gap + column * (this.side + gap)}px`,
      width: `${this.side}px`,
      height: `${this.side + foot}px`,
    });
    element.dataset.at = at;
    element.id = `tile-${at}`;
    element.setAttribute("role", "option");
    element.setAttribute("aria-setsize", this.items.length);
    element.setAttribute("aria-posinset", at + 1);
    this.shown.set(at, element);
    this.fill(at);
    this.inner.append(element);
  }

  fill(at) {
    const element = this.shown.get(at),
      item = this.items[at];
    this.draw(element, item);
    element.setAttribute("aria-label", this.name(item));
    element.setAttribute("aria-selected", this.selected.has(item.id));
    element.classList.toggle("active", at === this.active);
  }

  recycle(at) {
    const element = this.shown.get(at);
    element.remove();
    this.spare.push(element);
    this.shown.delete(at);
  }

  /* Draw the tiles of these items again, where they are in view. */
  refresh(ids) {
    for (const id of ids) if (this.shown.has(this.place?.get(id))) this.fill(this.place.get(id));
  }

  atOf(event) {
    const tile = event.target.closest("[data-at]");
    return tile ? Number(tile.dataset.at) : -1;
  }

  hover(event) {
    this.hovered = this.atOf(event);
  }

  click(event) {
    const at = this.atOf(event);
    if (at < 0) return;
    if (event.shiftKey) this.selectRange(at);
    else if (event.ctrlKey || event.metaKey) this.toggle(at);
    else this.go(at);
  }

  /* Make a tile the active one, and bring it into view. */
  go(at, { keep = false } = {}) {
    if (!this.items.length) return;
    const before = this.active;
    this.active = Math.max(0, Math.min(this.items.length - 1, at));
    this.anchor = this.active;
    const dropped = keep ? [] : [...this.selected];
    if (!keep) this.selected.clear();
    this.bringIntoView(this.active);
    this.refresh([...dropped, this.items[before]?.id, this.items[this.active].id]);
    this.nameActive();
    this.onActive(this.items[this.active]);
  }

  bringIntoView(at) {
    const row = this.rows.find((one) => at >= one.first && at < one.first + one.n);
    if (!row) return;
    const { scrollTop, clientHeight } = this.element;
    if (row.top < scrollTop) this.element.scrollTop = row.top - HEAD_PX;
    else if (row.top + row.height > scrollTop + clientHeight) {
      this.element.scrollTop = row.top + row.height - clientHeight;
    }
    this.render();
  }

  selectRange(at) {
    const [low, high] = [Math.min(this.anchor, at), Math.max(this.anchor, at)];
    const anchor = this.anchor;
    for (let i = low; i <= high; i += 1) this.selected.add(this.items[i].id);
    this.go(at, { keep: true });
    this.anchor = anchor;
    this.refresh(this.items.slice(low, high + 1).map((item) => item.id));
  }

  toggle(at) {
    const { id } = this.items[at];
    if (!this.selected.delete(id)) this.selected.add(id);
    this.go(at, { keep: true });
  }

  /* What a key acts on: the selection, else the tile under the pointer, else the active one. */
  targets() {
    if (this.selected.size) return this.items.filter((item) => this.selected.has(item.id));
    const one = this.items[this.hovered >= 0 ? this.hovered : this.active];
    return one ? [one] : [];
  }

  nameActive() {
    const there = this.shown.has(this.active);
    if (there) this.element.setAttribute("aria-activedescendant", `tile-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /* The bindings that move in the grid. */
  get bindings() {
    const step = {
      arrowleft: () => -1,
      arrowright: () => 1,
      arrowup: () => -this.columns,
      arrowdown: () => this.columns,
    };
    return [
      {
        keys: Object.keys(step),
        does: "move",
        run: (event, name) => {
          this.hovered = -1;
          this.go(this.active + step[name]());
        },
      },
      {
        keys: ["shift+arrowleft", "shift+arrowright", "shift+arrowup", "shift+arrowdown"],
        does: "select from here to there",
        run: (event, name) => {
          const to = this.active + step[name.slice(6)]();
          if (to >= 0 && to < this.items.length) this.selectRange(to);
        },
      },
      {
        keys: ["ctrl+a"],
        does: "select all",
        run: () => {
          this.items.forEach((item) => this.selected.add(item.id));
          this.refresh(this.items.map((item) => item.id));
        },
      },
      { keys: ["escape"], does: "select nothing", run: () => this.go(this.active) },
    ];
  }
}
