"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const sign = before ? (before === "ascending" ? -1 : 1) : numeric ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[place];
        if (!numeric) return cell.textContent.trim();
        const text = cell.dataset.value ?? cell.textContent;
        const number = parseFloat(text.replace("inf", "Infinity"));
        return Number.isNaN(number) ? null : number;
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // empty cells stay last
        return sign * (numeric ? (a < b ? -1 : a > b ? 1 : 0) : a.localeCompare(b));
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
