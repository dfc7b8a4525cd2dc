// Tables: sorting, filtering, and from every number a link to its records.
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const link = (ids, device) => ids ? `#records=${ids.split(" ").join(",")}${device ? `@${encodeURIComponent(device)}` : ""}` : "";

class Grid {
  // columns: {header, numeric}; cells(i): [{text, value, href, bold}] of row i; page: rows at a time
  constructor(place, columns, count, cells, page = 200) {
    Object.assign(this, { columns, cells, page, limit: page, order: [...Array(count).keys()], sorted: null });
    this.table = document.createElement("table");
    this.more = document.createElement("button");
    this.more.type = "button";
    this.more.addEventListener("click", () => { this.limit += this.page; this.draw(); });
    const wide = document.createElement("div");
    wide.className = "wide";
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", "table, scrolls sideways");
    wide.append(this.table);
    place.replaceChildren(wide, this.more);
    this.table.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (head) this.sort(head.cellIndex);
    });
    this.kept = this.order;
    this.draw();
  }

  sort(column) {
    const sign = this.sorted?.column === column && this.sorted.sign === 1 ? -1 : 1;
    this.sorted = { column, sign };
    const values = new Map(this.order.map((i) => [i, this.cells(i)[column].value]));
    const empty = (value) => value === null || value === undefined || value === "";
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    // what is empty comes last both ways
    const by = (i, j) => {
      const [a, b] = [values.get(i), values.get(j)];
      return empty(a) || empty(b) ? empty(a) - empty(b) : sign * compare(a, b);
    };
    this.order.sort(by);
    this.kept = [...this.kept].sort(by);
    this.draw();
    this.table.tHead.rows[0].cells[column].firstChild.focus();
  }

  filter(keep) {
    this.kept = this.order.filter(keep);
    this.limit = this.page;
    this.draw();
    return this.kept.length;
  }

  draw() {
    const heads = this.columns.map(({ header, numeric }, i) => {
      const sort = this.sorted?.column === i ? ` aria-sort="${this.sorted.sign === 1 ? "ascending" : "descending"}"` : "";
      return `<th scope="col"${numeric ? ' class="n"' : ""}${sort}><button type="button">${escaped(header)}</button></th>`;
    });
    const rows = this.kept.slice(0, this.limit).map((i) => {
      let first = true;
      const cells = this.cells(i).map(({ text, href, bold }, j) => {
        let inner = bold ? `<b>${escaped(text)}</b>` : escaped(text);
        // one stop of the Tab key a row
        if (href && text !== "") { inner = `<a href="${href}"${first ? "" : ' tabindex="-1"'}>${inner}</a>`; first = false; }
        return `<td${this.columns[j].numeric ? ' class="n"' : ""}>${inner}</td>`;
      });
      return `<tr>${cells.join("")}</tr>`;
    });
    this.table.innerHTML = `<thead><tr>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody>`;
    this.more.hidden = this.kept.length <= this.limit;
    this.more.textContent = `show more, ${this.kept.length - Math.min(this.limit, this.kept.length)} left`;
  }
}

// a table of the report within its <details>, built when it is opened
function table_of(details, spec) {
  const place = details.querySelector(".grid");
  if (place.firstChild) return;
  new Grid(place, spec.columns, spec.rows.length, (i) => spec.rows[i].map((text, j) => ({
    text, value: spec.values[i][j] ?? text, bold: spec.bold.some(([row, column]) => row === i && column === j),
    href: link(Array.isArray(spec.records[i]) ? spec.records[i][j] : spec.records[i], spec.device),
  })));
}

function show_text(title, text) {
  const dialog = document.getElementById("dialog");
  dialog.innerHTML = `<form method="dialog"><h3>${escaped(title)}</h3><textarea readonly spellcheck="false" aria-label="${escaped(title)}"></textarea>
    <p><button type="button" class="copy">copy</button> <button>close</button> <output></output></p></form>`;
  const area = dialog.querySelector("textarea"), said = dialog.querySelector("output");
  area.value = text;
  dialog.querySelector(".copy").addEventListener("click", async () => {
    area.select();
    try { await navigator.clipboard.writeText(text); } catch { document.execCommand("copy"); }
    said.textContent = "copied";
  });
  dialog.showModal();
  area.select();
}
