"use strict";
const { specs, themes } = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

// Draw a figure in the page's theme; a phone's legend takes more rows.
async function draw(box) {
  const theme = dark.matches ? "dark" : "light";
  const config = structuredClone(themes[theme]);
  const narrow = box.clientWidth < 480;
  config.legend.columns = narrow ? 5 : 10;
  if (narrow) config.legend.titleOrient = "top";
  drawn.get(box)?.finalize();
  const result = await vegaEmbed(box, specs[box.id], {
    config, renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    tooltip: { theme }, downloadFileName: box.id,
  });
  box.style.minHeight = "";
  drawn.set(box, result);
}

// One figure after another, in the order of the page, with a breath between for scrolling.
const boxes = [...document.querySelectorAll(".chart")];
async function drawAll() {
  for (const box of boxes) {
    await draw(box);
    await new Promise((resume) => setTimeout(resume));
  }
  document.body.dataset.drawn = drawn.size;
}
dark.addEventListener("change", drawAll);
drawAll();

// Sort by a column: numbers as numbers, empty cells last; a second click turns the order round.
const table = document.getElementById("table");
const heads = [...table.tHead.rows[0].cells];
heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.v;
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === "" || right === "") return (left === "") - (right === "");
      const difference = Number(left) - Number(right);
      return sign * (Number.isNaN(difference) ? left.localeCompare(right) : difference);
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  });
});
document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
