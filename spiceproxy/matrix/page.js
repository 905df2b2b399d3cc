"use strict";
// Chips of one kind are alternatives, kinds and the search narrow each other; a column chip says where a row has to fit.
const rows = [...document.querySelectorAll("tbody tr")].map((row) => ({
  row, cells: [...row.querySelectorAll("td.cell")], text: row.textContent.toLowerCase(),
}));
const chips = [...document.querySelectorAll(".chip")];
const search = document.getElementById("search");
const count = document.getElementById("count");

for (const part of document.querySelectorAll(".part")) part.style.flexGrow = part.dataset.share;

function chosen(kind) {
  return chips.filter((chip) => kind in chip.dataset && chip.getAttribute("aria-pressed") === "true")
    .map((chip) => chip.dataset[kind]);
}

function narrow() {
  const verdicts = chosen("verdict"), outcomes = chosen("outcome"), flags = chosen("flag"), columns = chosen("column");
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const any = verdicts.length || outcomes.length || flags.length || columns.length;
  let shown = 0;
  for (const { row, cells, text } of rows) {
    let fits = 0;
    for (const cell of cells) {
      const fit = (!columns.length || columns.includes(cell.dataset.column)) &&
        (!verdicts.length || verdicts.includes(cell.dataset.verdict)) &&
        (!outcomes.length || outcomes.some((one) => cell.dataset.outcomes.split(" ").includes(one))) &&
        (!flags.length || flags.every((one) => cell.dataset.flags.split(" ").includes(one)));
      cell.classList.toggle("dim", Boolean(any) && !fit);
      fits += fit;
    }
    row.hidden = !(fits && words.every((word) => text.includes(word)));
    shown += !row.hidden;
  }
  count.textContent = shown === rows.length ? `${rows.length} scenarios` : `${shown} of ${rows.length} scenarios`;
}

for (const chip of chips) {
  chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") === "true" ? "false" : "true");
    narrow();
  });
}
search.addEventListener("input", narrow);
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.classList.contains("dark") ||
    (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  root.classList.toggle("dark", !dark);
  root.classList.toggle("light", dark);
});
narrow();
