/* Draws outlines, their marks, and the corners around the chosen cell.

   A view is {scale, x, y}: CSS pixels per image pixel, and the image point at the upper left. */

import { drawMark } from "./palette.js";

/* Marks are drawn on cells at least this wide; their least and greatest radius. */
const MARK_FROM_PX = 18,
  MARK_RADIUS_PX = [3, 5];
const FOCUS = "#0048ba";

/* The screen point of an image point. */
export function toScreen(view, x, y) {
  return [(x - view.x) * view.scale, (y - view.y) * view.scale];
}

/* Draw the outlines of one style. */
export function strokeAll(context, view, style, members) {
  context.beginPath();
  for (const outline of members) {
    for (const ring of outline.rings) trace(context, view, ring);
  }
  context.lineJoin = "round";
  context.globalAlpha = style.opacity ?? 1;
  if (style.halo !== false) {
    context.setLineDash([]);
    context.strokeStyle = "rgb(255 255 255 / .8)";
    context.lineWidth = style.width + 1.6;
    context.stroke();
  }
  context.setLineDash(style.dash);
  context.strokeStyle = style.colour;
  context.lineWidth = style.width;
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/* Draw the marks of one style, on cells that are wide enough. */
export function markAll(context, view, style, members) {
  if (!style.look?.path) return;
  for (const outline of members) {
    const wide = (outline.box[2] - outline.box[0]) * view.scale;
    if (wide < MARK_FROM_PX) continue;
    const [x, y] = toScreen(view, outline.x, outline.box[1]);
    const radius = Math.max(MARK_RADIUS_PX[0], Math.min(MARK_RADIUS_PX[1], wide / 10));
    drawMark(context, style.look, { x, y, radius, hollow: style.hollow });
  }
}

/* Add a ring to the path; points closer than a pixel to the last one are left out. */
function trace(context, view, ring) {
  const { scale, x: left, y: top } = view;
  let lastX = (ring[0] - left) * scale,
    lastY = (ring[1] - top) * scale;
  context.moveTo(lastX, lastY);
  for (let i = 2; i < ring.length; i += 2) {
    const x = (ring[i] - left) * scale,
      y = (ring[i + 1] - top) * scale;
    if (Math.abs(x - lastX) + Math.abs(y - lastY) < 1) continue;
    context.lineTo(x, y);
    [lastX, lastY] = [x, y];
  }
  context.closePath();
}

/* Four corners around the chosen cell. */
export function drawCorners(context, view, box) {
  const [x0, y0] = toScreen(view, box[0], box[1]),
    [x1, y1] = toScreen(view, box[2], box[3]);
  const pad = 7,
    arm = Math.min(12, (x1 - x0 + 2 * pad) / 3);
  context.beginPath();
  for (const [x, sx] of [
    [x0 - pad, 1],
    [x1 + pad, -1],
  ]) {
    for (const [y, sy] of [
      [y0 - pad, 1],
      [y1 + pad, -1],
    ]) {
      context.moveTo(x + sx * arm, y);
      context.lineTo(x, y);
      context.lineTo(x, y + sy * arm);
    }
  }
  context.lineJoin = "miter";
  for (const [colour, width] of [
    ["#fff", 6],
    [FOCUS, 3],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}
