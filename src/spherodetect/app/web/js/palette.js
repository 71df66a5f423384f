/* How labels look: a colour, a mark and a line, so that classes are told apart without colour.

   Marks are SVG paths in the square from -1 to 1. Line widths and dashes are in screen pixels. */

import { svg } from "./dom.js";

/* None looks like another one that is hollow. */
const MARKS = [
  "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0Z",
  "M0-1.15L1.1 .85H-1.1Z",
  "M-.9-.9H.9V.9H-.9Z",
  "M0-1.2L1.1 0L0 1.2L-1.1 0Z",
  "M-.33-1H.33V-.33H1V.33H.33V1H-.33V.33H-1V-.33H-.33Z",
  "M-1-.55L-.55-1L0-.45L.55-1L1-.55L.45 0L1 .55L.55 1L0 .45L-.55 1L-1 .55L-.45 0Z",
  "M0-1.15L.3-.38L1.1-.34L.48 .16L.69 .92L0 .48L-.69 .92L-.48 .16L-1.1-.34L-.3-.38Z",
  "M-1.1-.4H1.1V.4H-1.1Z",
  "M0 1.15L1.1-.85H-1.1Z",
  "M-.5-.95H.5L1.05 0L.5 .95H-.5L-1.05 0Z",
  "M-1.1 .5A1.1 1.1 0 0 1 1.1 .5Z",
];
/* The first label is the usual one, such as rbc: its line is thin, and a model's has no mark. */
const LINES = [
  { width: 1.2, dash: [] },
  { width: 2.6, dash: [] },
  { width: 1.8, dash: [7, 3] },
  { width: 1.8, dash: [2, 3] },
  { width: 1.8, dash: [9, 3, 2, 3] },
  { width: 2.6, dash: [4, 4] },
];

/* A colour of three bytes as #rrggbb; anything else becomes grey. */
export function safeColour(text) {
  return /^#[0-9a-f]{6}$/i.test(text || "") ? text : "#5b6673";
}

/* Colours for new labels, after Okabe and Ito (2008), darkened to 4.5:1 on white. */
export const COLOURS = [
  "#0048ba",
  "#282828",
  "#00714f",
  "#a84300",
  "#8a3a78",
  "#7a5c00",
  "#006c8f",
  "#b3261e",
  "#4b4fb8",
  "#5b6673",
];

/* The looks of a set of labels by id, in the order of the list. */
export function looksOf(labels) {
  return new Map(
    labels.map((label, at) => [
      label.id,
      {
        colour: safeColour(label.colour),
        mark: MARKS[at % MARKS.length],
        path: new Path2D(MARKS[at % MARKS.length]),
        line: LINES[at < LINES.length ? at : 2 + ((at - 2) % (LINES.length - 2))],
        usual: at === 0,
      },
    ]),
  );
}

/* The look of an outline that nobody labelled. */
export const UNLABELLED = {
  colour: "#5b6673",
  mark: "",
  path: null,
  line: { width: 1.2, dash: [3, 4] },
};

/* A label's mark as an SVG element; `hollow` and `ring` as in the drawings. */
export function markOf(look, { size = 14, hollow = false, ring = false } = {}) {
  const reach = ring ? 1.9 : 1.4;
  const props = {
    viewBox: `${-reach} ${-reach} ${2 * reach} ${2 * reach}`,
    width: size,
    height: size,
    class: "mark",
    "aria-hidden": "true",
  };
  return svg(
    "svg",
    props,
    svg("path", {
      d: look.mark,
      fill: hollow ? "#fff" : look.colour,
      stroke: look.colour,
      "stroke-width": hollow ? 0.4 : 0,
    }),
    ring ? svg("circle", { r: 1.7, fill: "none", stroke: "#1b2530", "stroke-width": 0.3 }) : null,
  );
}

/* Draw a label's mark with a white edge; a hollow one is what a model said. `x`, `y` and `radius`
   are pixels of the canvas. */
export function drawMark(context, look, { x, y, radius, hollow = false }) {
  if (!look.path) return;
  context.save();
  context.translate(x, y);
  context.scale(radius, radius);
  context.setLineDash([]);
  context.lineJoin = "round";
  context.lineWidth = hollow ? 1.1 : 0.7;
  context.strokeStyle = "#fff";
  context.stroke(look.path);
  context.fillStyle = hollow ? "#fff" : look.colour;
  context.fill(look.path);
  if (hollow) {
    context.lineWidth = 0.4;
    context.strokeStyle = look.colour;
    context.stroke(look.path);
  }
  context.restore();
}
