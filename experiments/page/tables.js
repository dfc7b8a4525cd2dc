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
    wide.setAttribute("aria-label", "table, scrolls sideways; arrow keys move between its numbers");
    wide.append(this.table);
    place.replaceChildren(wide, this.more);
    this.table.addEventListener("click", (event) => {
      const column = event.target.closest("th")?.cellIndex;
      if (column === undefined) return;
      this.sort(column, this.sorted?.column === column ? -this.sorted.sign : 1);
      this.table.tHead.rows[0].cells[column].firstChild.focus();
    });
    this.table.addEventListener("focusin", (event) => this.stop(event.target.closest("td a")));
    this.table.addEventListener("keydown", (event) => this.key(event));
    this.kept = this.order;
    this.draw();
  }

  // sign: 1 ascending, -1 descending
  sort(column, sign) {
    this.sorted = { column, sign };
    const values = new Map(this.order.map((i) => [i, this.cells(i)[column].value]));
    // numbers, then words, then what is empty, both ways
    const rank = (value) => typeof value === "number" ? 0 : value === null || value === undefined || value === "" ? 2 : 1;
    const compare = (a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    const by = (i, j) => {
      const [a, b] = [values.get(i), values.get(j)];
      return rank(a) - rank(b) || sign * compare(a, b);
    };
    this.order.sort(by);
    this.kept = [...this.kept].sort(by);
    this.draw();
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
      const cells = this.cells(i).map(({ text, href, bold }, j) => {
        const said = bold ? `<b>${escaped(text)}</b>` : escaped(text);
        const inner = href && text !== "" ? `<a href="${href}" tabindex="-1">${said}</a>` : said;
        return `<td${this.columns[j].numeric ? ' class="n"' : ""}>${inner}</td>`;
      });
      return `<tr>${cells.join("")}</tr>`;
    });
    this.table.innerHTML = `<thead><tr>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody>`;
    this.stop(this.table.querySelector("td a"));
    this.more.hidden = this.kept.length <= this.limit;
    this.more.textContent = `show more, ${this.kept.length - Math.min(this.limit, this.kept.length)} left`;
  }

  // the one number of a table that the Tab key comes to
  stop(number) {
    if (!number) return;
    this.table.querySelector('td a[tabindex="0"]')?.setAttribute("tabindex", -1);
    number.tabIndex = 0;
  }

  // the arrow keys, Home and End move from number to number; Enter opens what it links to
  key(event) {
    const from = event.target.closest("td a");
    if (!from || event.ctrlKey || event.altKey || event.metaKey) return;
    const cell = from.parentNode, row = [...cell.parentNode.querySelectorAll("a")];
    const column = [...this.table.tBodies[0].rows].map((line) => line.cells[cell.cellIndex].querySelector("a")).filter(Boolean);
    const beside = (numbers, step) => numbers[numbers.indexOf(from) + step];
    const to = {
      ArrowRight: beside(row, 1), ArrowLeft: beside(row, -1), ArrowDown: beside(column, 1), ArrowUp: beside(column, -1),
      Home: row[0], End: row.at(-1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to.focus();
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

// a modal dialog under a title; title and inner are HTML
function show_dialog(title, inner) {
  const dialog = document.getElementById("dialog");
  dialog.innerHTML = `<form method="dialog"><h3 id="dialog-title">${title}</h3>${inner}</form>`;
  dialog.showModal();
  return dialog;
}

function show_text(title, text) {
  const dialog = show_dialog(escaped(title), `<textarea readonly spellcheck="false" aria-label="${escaped(title)}"></textarea>
    <p><button type="button" class="copy">copy</button> <button>close</button> <output></output></p>`);
  const area = dialog.querySelector("textarea"), said = dialog.querySelector("output");
  area.value = text;
  dialog.querySelector(".copy").addEventListener("click", async () => {
    area.select();
    try { await navigator.clipboard.writeText(text); } catch { document.execCommand("copy"); }
    said.textContent = "copied";
  });
  area.select();
}
