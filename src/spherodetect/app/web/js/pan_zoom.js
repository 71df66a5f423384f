/* Pointer, wheel and pinch on a FieldCanvas.

   A press without movement is a click; with movement it moves the photograph, unless a tool takes
   the press. A tool is {down(point, event), move(point), up(point)}, with points in image pixels. */

const CLICK_PX = 4;

export function watchPointer(canvas, { onClick, tool = () => null }) {
  const pressed = new Map();
  let start = null,
    moved = false,
    active = null,
    spread = 0;

  function spreadNow() {
    const [a, b] = [...pressed.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  }

  canvas.over.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.over.setPointerCapture(event.pointerId);
    canvas.over.focus({ preventScroll: true });
    pressed.set(event.pointerId, event);
    if (pressed.size === 2) {
      spread = spreadNow();
      active = null;
      moved = true;
      return;
    }
    start = event;
    moved = false;
    active = event.button === 0 ? tool() : null;
    active?.down(canvas.pointOf(event), event);
  });

  canvas.over.addEventListener("pointermove", (event) => {
    const last = pressed.get(event.pointerId);
    if (!last) {
      tool()?.hover?.(canvas.pointOf(event));
      return;
    }
    pressed.set(event.pointerId, event);
    if (pressed.size === 2) {
      const now = spreadNow();
      const box = canvas.over.getBoundingClientRect();
      const [a, b] = [...pressed.values()];
      canvas.zoom(
        now / spread,
        (a.clientX + b.clientX) / 2 - box.left,
        (a.clientY + b.clientY) / 2 - box.top,
      );
      spread = now;
      return;
    }
    if (Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > CLICK_PX)
      moved = true;
    if (active) active.move(canvas.pointOf(event));
    else if (moved) canvas.moveBy(event.clientX - last.clientX, event.clientY - last.clientY);
  });

  function release(event) {
    if (!pressed.delete(event.pointerId)) return;
    if (active) active.up(canvas.pointOf(event), moved);
    else if (!moved && event.type === "pointerup") onClick(canvas.pointOf(event), event);
    active = null;
  }
  canvas.over.addEventListener("pointerup", release);
  canvas.over.addEventListener("pointercancel", release);

  canvas.over.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = canvas.over.getBoundingClientRect();
      const step = event.deltaMode === 1 ? 16 : 1;
      canvas.zoom(
        Math.exp(-event.deltaY * step * 0.0015),
        event.clientX - box.left,
        event.clientY - box.top,
      );
    },
    { passive: false },
  );
}
