// a click on a heading sorts; numbers by value, a mean by itself, empty cells last
const value = (row, i) => {
  const text = row.cells[i].textContent.trim(), number = Number(text.split(" ± ")[0].replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
};
const compare = (a, b) => typeof a === typeof b && typeof a === "number" ? a - b : String(a).localeCompare(String(b));
const sort = (head) => {
  const body = head.closest("table").tBodies[0], i = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const rows = [...body.rows].map((row) => [value(row, i), row]);
  rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : sign * compare(a, b));
  body.append(...rows.map(([, row]) => row));
};
for (const head of document.querySelectorAll("th")) {
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
}

const filter = document.getElementById("filter"), rows = [...document.querySelectorAll("#records tbody tr")];
const show = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length}`;
};
filter.addEventListener("input", show);
show();
