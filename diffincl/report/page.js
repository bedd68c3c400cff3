// A heading sorts its table: ascending, descending, as it was. Without this script the page reads the same.
"use strict";
(() => {
  const collator = new Intl.Collator("en", { numeric: true });

  // "98.7 ± 0.2", "1.2e+03", "∞"; what is no number, such as "–", is null.
  function number(text) {
    const value = parseFloat(text.replace("−", "-").replace(/^([-+]?)(∞|inf)/i, "$1Infinity"));
    return Number.isNaN(value) ? null : value;
  }

  function key(row, column, numeric) {
    const cell = row.cells[column];
    if (cell.dataset.sort !== undefined) return number(cell.dataset.sort);
    const text = cell.textContent.trim();
    return numeric ? number(text) : text;
  }

  // What is not known comes last in both directions.
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "string") return sign * collator.compare(a, b);
    return sign * ((a > b) - (a < b));
  }

  function sort(table, original, column) {
    const heading = table.tHead.rows[0].cells[column];
    const way = { ascending: "descending", descending: null }[heading.getAttribute("aria-sort") ?? "none"];
    const next = way === undefined ? "ascending" : way;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (next) heading.setAttribute("aria-sort", next);
    const numeric = heading.classList.contains("n");
    const sign = next === "descending" ? -1 : 1;
    const keys = new Map(original.map((row) => [row, key(row, column, numeric)]));
    const rows = next ? [...original].sort((a, b) => compare(keys.get(a), keys.get(b), sign)) : original;
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table")) {
    const original = [...table.tBodies[0].rows];
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, original, column));
      heading.append(button);
    });
  }
})();
