/* The outlines of one field: geometry, hit test and neighbours. Coordinates are image pixels.

   An outline is {id, rings: [Float32Array of x, y, ...], box: [x0, y0, x1, y1], area, x, y}; x, y is
   the middle of the box. Rings follow the even-odd rule, so that a ring inside another is a hole. */

const GRID_PX = 64;

/* Return the outline of rings, which are arrays of x, y, x, y, ... */
export function makeOutline(id, rings) {
  const flat = rings.map((ring) => Float32Array.from(ring)).filter((ring) => ring.length >= 6);
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const ring of flat) {
    for (let i = 0; i < ring.length; i += 2) {
      box[0] = Math.min(box[0], ring[i]);
      box[1] = Math.min(box[1], ring[i + 1]);
      box[2] = Math.max(box[2], ring[i]);
      box[3] = Math.max(box[3], ring[i + 1]);
    }
  }
  if (!flat.length) box.fill(0);
  const area = Math.abs(flat.reduce((sum, ring) => sum + signedArea(ring), 0));
  return { id, rings: flat, box, area, x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 };
}

/* The area of a ring by the shoelace formula; its sign tells the direction. */
export function signedArea(ring) {
  let twice = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
    twice += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
  }
  return twice / 2;
}

/* Whether a point lies inside, by the even-odd rule. */
export function contains(outline, x, y) {
  let inside = false;
  for (const ring of outline.rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const yi = ring[i + 1],
        yj = ring[j + 1];
      if (yi > y !== yj > y && x < ((ring[j] - ring[i]) * (y - yi)) / (yj - yi) + ring[i]) {
        inside = !inside;
      }
    }
  }
  return inside;
}

/* Whether two boxes share a point. */
function boxesMeet(a, b) {
  return a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3];
}

/* All outlines of a field, found by place through a grid. */
export class Outlines {
  constructor(outlines) {
    this.byId = new Map();
    this.grid = new Map();
    outlines.forEach((outline) => this.add(outline));
  }

  get all() {
    return [...this.byId.values()];
  }

  add(outline) {
    this.remove(outline.id);
    this.byId.set(outline.id, outline);
    for (const key of gridKeys(outline.box)) {
      if (!this.grid.has(key)) this.grid.set(key, new Set());
      this.grid.get(key).add(outline);
    }
  }

  remove(id) {
    const outline = this.byId.get(id);
    if (!outline) return;
    this.byId.delete(id);
    for (const key of gridKeys(outline.box)) this.grid.get(key)?.delete(outline);
  }

  /* Those whose boxes meet a box. */
  near(box) {
    const found = new Set();
    for (const key of gridKeys(box)) {
      for (const outline of this.grid.get(key) || []) {
        if (boxesMeet(outline.box, box)) found.add(outline);
      }
    }
    return [...found];
  }

  /* Those that contain a point, the smallest first. */
  under(x, y) {
    return this.near([x, y, x, y])
      .filter((one) => contains(one, x, y))
      .sort((a, b) => a.area - b.area);
  }

  /* Those that enclose the middle of an outline and are larger. */
  enclosing(outline) {
    return this.under(outline.x, outline.y).filter(
      (one) => one.area > outline.area && one !== outline,
    );
  }

  /* The nearest outline from `from` in a direction: [1, 0] is right, [0, 1] is down. */
  next(from, [dx, dy]) {
    let best = null,
      least = Infinity;
    for (const one of this.byId.values()) {
      const along = (one.x - from.x) * dx + (one.y - from.y) * dy;
      const across = Math.abs((one.x - from.x) * dy) + Math.abs((one.y - from.y) * dx);
      if (along <= 0.5 || across > 2 * along) continue;
      const cost = along + 2 * across;
      if (cost < least) [best, least] = [one, cost];
    }
    return best;
  }
}

function gridKeys(box) {
  const keys = [];
  const [x0, y0, x1, y1] = box.map((value) => Math.floor(value / GRID_PX));
  for (let y = y0; y <= y1; y += 1) {
    for (let x = x0; x <= x1; x += 1) keys.push(y * 65536 + x);
  }
  return keys;
}

/* Cut a ring along the line from a to b, both [x, y]; null where it is not cut in two. */
export function cut(ring, a, b) {
  const crossings = [];
  for (let i = 0; i < ring.length; i += 2) {
    const j = (i + 2) % ring.length;
    const at = meet([ring[i], ring[i + 1]], [ring[j], ring[j + 1]], a, b);
    if (at) crossings.push({ after: i, at });
  }
  if (crossings.length !== 2) return null;
  const [first, second] = crossings;
  const one = [...first.at, ...ring.slice(first.after + 2, second.after + 2), ...second.at];
  const other = [
    ...second.at,
    ...ring.slice(second.after + 2),
    ...ring.slice(0, first.after + 2),
    ...first.at,
  ];
  return [one, other].every((part) => part.length >= 6 && Math.abs(signedArea(part)) >= 1)
    ? [one, other]
    : null;
}

/* Where segment p-q crosses segment a-b, or null. */
function meet(p, q, a, b) {
  const rx = q[0] - p[0],
    ry = q[1] - p[1],
    sx = b[0] - a[0],
    sy = b[1] - a[1];
  const cross = rx * sy - ry * sx;
  if (Math.abs(cross) < 1e-9) return null;
  const t = ((a[0] - p[0]) * sy - (a[1] - p[1]) * sx) / cross;
  const u = ((a[0] - p[0]) * ry - (a[1] - p[1]) * rx) / cross;
  return t >= 0 && t < 1 && u >= 0 && u <= 1 ? [p[0] + t * rx, p[1] + t * ry] : null;
}
