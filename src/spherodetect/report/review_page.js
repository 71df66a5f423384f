"use strict";
/* Answers of a reviewer: kept in the browser as they are given, saved as a file. Nothing is sent. */
(function () {
  const review = JSON.parse(document.getElementById("review").textContent);
  const PAGE = 30, N = review.cells.length, PAGES = Math.ceil(N / PAGE);
  const KEY = "spherodetect-review " + review.draw + " " + review.first;
  const byId = (id) => document.getElementById(id);
  const tiles = Array.from(document.querySelectorAll(".cell"));
  const reviewer = byId("reviewer");
  const words = {}, keys = {};
  for (const one of review.answers) {
    words[one.value] = one;
    keys[one.key.toLowerCase()] = one.value;
  }
  let answers = new Array(N).fill(""), at = 0, page = 0, unsaved = false;

  function keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify({ reviewer: reviewer.value, answers: answers }));
    } catch (error) {
      byId("kept").textContent =
        "This browser does not keep answers. Save them as a file before you close the page.";
    }
  }

  function restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) || "{}");
      if (Array.isArray(kept.answers) && kept.answers.length === N) {
        answers = kept.answers.map((answer) => (answer in words ? answer : ""));
        reviewer.value = String(kept.reviewer || "");
      }
    } catch (error) {
      /* What cannot be read is as if it were not there; a file that was saved is not touched. */
    }
  }

  function showTile(i) {
    const tile = tiles[i], answer = answers[i];
    if (answer) tile.dataset.answer = answer;
    else delete tile.dataset.answer;
    tile.querySelector("kbd").textContent = answer ? words[answer].key : "";
    tile.querySelector(".word").textContent = answer ? words[answer].short : "\u00a0";
    tile.setAttribute("aria-label",
      "cell " + (review.first + i) + ", " + (answer ? words[answer].name : "not answered"));
  }

  function showCount() {
    const given = answers.filter(Boolean).length;
    const here = answers.slice(page * PAGE, (page + 1) * PAGE);
    const open = here.filter((answer) => !answer).length;
    byId("count").textContent = given + " of " + N + " answered";
    byId("done").style.width = (100 * given) / N + "%";
    byId("page").textContent = "Page " + (page + 1) + " of " + PAGES;
    byId("left").textContent = open ? open + " open on this page" : "this page is complete";
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === PAGES - 1;
    byId("next").classList.toggle("ready", !open && page < PAGES - 1);
  }

  function select(i, scroll) {
    tiles[at].removeAttribute("aria-current");
    at = Math.max(0, Math.min(N - 1, i));
    const wanted = Math.floor(at / PAGE);
    if (wanted !== page) showPage(wanted);
    tiles[at].setAttribute("aria-current", "true");
    if (scroll) {
      tiles[at].focus({ preventScroll: true });
      tiles[at].scrollIntoView({ block: "nearest" });
    }
  }

  function showPage(wanted) {
    page = Math.max(0, Math.min(PAGES - 1, wanted));
    tiles.forEach((tile, i) => { tile.hidden = Math.floor(i / PAGE) !== page; });
    showCount();
  }

  function turn(by) {
    const wanted = page + by;
    if (wanted < 0 || wanted >= PAGES) return;
    showPage(wanted);
    const here = answers.slice(page * PAGE, (page + 1) * PAGE).findIndex((answer) => !answer);
    select(page * PAGE + Math.max(here, 0), false);
    window.scrollTo(0, byId("cells").offsetTop - 60);
    tiles[at].focus({ preventScroll: true });
  }

  function give(answer) {
    answers[at] = answer;
    unsaved = true;
    showTile(at);
    showCount();
    keep();
    if (!answer) return;
    const end = Math.min((page + 1) * PAGE, N);
    for (let i = at + 1; i < end; i += 1) {
      if (!answers[i]) { select(i, true); return; }
    }
    if (at + 1 < end) select(at + 1, true);
  }

  function columns() {
    return getComputedStyle(byId("cells")).gridTemplateColumns.split(" ").length;
  }

  function save() {
    const name = reviewer.value.trim();
    reviewer.classList.toggle("missing", !name);
    if (!name) {
      reviewer.focus();
      byId("kept").textContent = "Give a name or initials first.";
      return;
    }
    const given = [];
    review.cells.forEach((cell, i) => {
      if (answers[i]) given.push({ field_id: cell[0], cell_id: cell[1], answer: answers[i] });
    });
    const file = {
      spherodetect_review: 1, patient_id: review.patient_id, draw: review.draw, seed: review.seed,
      reviewer: name, answers: given
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(
      new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
    link.download = review.file + "_" + name.replace(/[^\p{L}\p{N}_-]+/gu, "_") + ".json";
    link.click();
    URL.revokeObjectURL(link.href);
    unsaved = false;
    const open = N - given.length;
    byId("kept").textContent = open
      ? given.length + " answers saved. " + open + " cells are open: a batch counts once it is complete."
      : "All " + N + " answers saved. Give the file to spherodetect review RESULTS --apply FILE.";
  }

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === reviewer) return;
    const key = event.key.toLowerCase();
    const steps = { arrowleft: -1, arrowright: 1, arrowup: -columns(), arrowdown: columns() };
    if (key in keys) give(keys[key]);
    else if (key in steps) select(at + steps[key], true);
    else if (key === "backspace" || key === "delete") give("");
    else if (key === "n" || key === "pagedown") turn(1);
    else if (key === "p" || key === "pageup") turn(-1);
    else return;
    event.preventDefault();
  });
  tiles.forEach((tile, i) => tile.addEventListener("click", () => select(i, true)));
  document.querySelectorAll(".answers button").forEach((button) =>
    button.addEventListener("click", () => give(button.dataset.answer)));
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("save").addEventListener("click", save);
  reviewer.addEventListener("input", () => { reviewer.classList.remove("missing"); keep(); });
  window.addEventListener("beforeunload", function (event) {
    if (unsaved) event.preventDefault();
  });

  restore();
  tiles.forEach((tile, i) => showTile(i));
  const open = answers.findIndex((answer) => !answer);
  page = -1;
  select(open < 0 ? 0 : open, false);
})();
