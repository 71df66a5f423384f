/* Short messages at the foot of the window; screen readers say them too. */

import { h } from "./dom.js";

const SHOWN_MS = 6000,
  PROBLEM_MS = 15000;

/* Show a sentence. `action` is [text, function]; `problem` marks what went wrong. */
export function notify(text, { problem = false, action } = {}) {
  const shown = document.getElementById("says");
  const message = h("div", { class: problem ? "message problem" : "message" }, h("span", { text }));
  const remove = () => message.remove();
  if (action)
    message.append(
      h("button", {
        text: action[0],
        onclick: () => {
          remove();
          action[1]();
        },
      }),
    );
  message.append(h("button", { class: "quiet", text: "Close", onclick: remove }));
  // The same sentence is not piled up.
  for (const old of shown.children) if (old.firstChild.textContent === text) old.remove();
  shown.append(message);
  setTimeout(remove, problem ? PROBLEM_MS : SHOWN_MS);
}

/* Say something to screen readers alone. */
export function say(text) {
  document.getElementById("hear").textContent = text;
}
