/* Draws the two ends of a known length, and the magnifier of the chosen one. */

/* How near the pointer takes an end, and the side of the magnifier. */
export const GRIP_PX = 18;
export const LENS_PX = 176;
const LENS_ZOOM = 8;
/* Lines are blue with a white edge. */
const EDGES = [
  ["#fff", 5],
  ["#0048ba", 2],
];

/* Draw the ends, [x, y] in image pixels, on a FieldCanvas; a ring marks the chosen one. */
export function drawEnds(context, canvas, ends, chosen) {
  const shown = ends.map(([x, y]) => canvas.toScreen(x, y));
  const path = new Path2D();
  path.moveTo(...shown[0]);
  path.lineTo(...shown[1]);
  for (const [x, y] of shown) {
    path.moveTo(x, y - 14);
    path.lineTo(x, y + 14);
  }
  const [x, y] = shown[chosen];
  path.moveTo(x + GRIP_PX - 6, y);
  path.arc(x, y, GRIP_PX - 6, 0, 2 * Math.PI);
  strokeTwice(context, path);
}

/* Draw the surroundings of a point eight times as large, with a cross around the point. */
export function drawLens(lens, image, [x, y]) {
  const context = lens.getContext("2d"),
    side = LENS_PX / LENS_ZOOM,
    all = lens.width,
    middle = all / 2;
  context.fillStyle = "#e9edf1";
  context.fillRect(0, 0, all, all);
  context.imageSmoothingEnabled = false;
  if (image) context.drawImage(image, x - side / 2, y - side / 2, side, side, 0, 0, all, all);
  const path = new Path2D();
  for (const [from, to] of [
    [0, middle - 12],
    [middle + 12, all],
  ]) {
    path.moveTo(middle, from);
    path.lineTo(middle, to);
    path.moveTo(from, middle);
    path.lineTo(to, middle);
  }
  strokeTwice(context, path);
}

function strokeTwice(context, path) {
  for (const [colour, width] of EDGES) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(path);
  }
}
