"use strict";
// Play one recording at a time.
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
// A click on a heading sorts the table by it, a second one the other way round; missing values stay last.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
    const key = row => {
      const cell = row.cells[column], given = cell.dataset.sort;
      if (given === undefined) return cell.textContent;
      const number = given === "inf" ? Infinity : Number(given);
      return Number.isNaN(number) ? given : number;
    };
    const before = (a, b) => {
      const x = key(a), y = key(b);
      if (x === y) return 0;
      if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
      const order = typeof x === typeof y ? (x < y ? -1 : 1) : (typeof x === "number" ? -1 : 1);
      return up ? order : -order;
    };
    const rows = [...body.rows].sort(before);
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
}
