// The page: unpacks what it holds, then records, charts, tables and cards are put to work.
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

let data, records, spare, found_by_id, grid;
// of a device or, as scores are, of several: "a and b", of which one record of a point counts
const measured_on = (record, device) => !device || record["env.device"] === device ||
  (device.split(" and ").includes(record["env.device"]) && !spare.has(record));
const find_record = (id, device) => (found_by_id.get(id) ?? []).find((record) => measured_on(record, device));

const FILTERS = ["config.experiment", "env.device", "config.mechanism", "config.mode", "config.n", "status"];

function start_records() {
  const { columns, rows, same } = data.records;
  records = rows.map((row) => ({ ...same, ...Object.fromEntries(columns.map((key, i) => [key, row[i]]).filter(([, value]) => value !== null)) }));
  spare = new Set(data.records.spare.map((i) => records[i]));
  found_by_id = Map.groupBy ? Map.groupBy(records, (record) => record.id) : new Map();
  if (!found_by_id.size) for (const record of records) found_by_id.set(record.id, [...(found_by_id.get(record.id) ?? []), record]);
  const form = document.getElementById("filters");
  for (const key of FILTERS) {
    const values = [...new Set(records.map((record) => record[key]).filter((value) => value !== undefined))];
    values.sort((a, b) => typeof a === "number" ? a - b : String(a).localeCompare(b));
    if (values.length < 2) continue;
    const options = values.map((value) => `<option value="${escaped(value)}">${typeof value === "number" ? value.toLocaleString("en") : escaped(value)}</option>`);
    form.insertAdjacentHTML("beforeend", `<label>${key.split(".").at(-1).replace(/^n$/, "N")} <select name="${key}"><option value="">all</option>${options.join("")}</select></label>`);
  }
  form.addEventListener("input", () => { if (location.hash.startsWith("#records=")) history.replaceState(null, "", "#records"); filter_records(); });
  document.getElementById("all-columns").addEventListener("change", draw_records);
  draw_records();
}

function draw_records() {
  const all = document.getElementById("all-columns").checked;
  const used = (key) => records.some((record) => record[key] !== undefined && record[key] !== "");
  const keys = (all ? data.records.columns : data.records.leading).filter(used);
  const numeric = keys.map((key) => records.every((record) => ["number", "undefined"].includes(typeof record[key])));
  const unit = (key) => data.records.units[key];
  const columns = keys.map((key, i) => ({ key, header: unit(key) ? `${key.split(".").at(-1)}, ${unit(key)[0]}` : key.replace(/^(config|metrics|env)\./, ""), numeric: numeric[i] }));
  const before = grid, by = grid?.sorted && grid.columns[grid.sorted.column].key;
  grid = new Grid(document.querySelector("#records .grid"), columns, records.length, (i) => keys.map((key, j) => {
    const value = records[i][key] ?? "";
    const text = value === "" ? "" : unit(key) ? (value / unit(key)[1]).toLocaleString("en", { maximumSignificantDigits: 4 })
      : numeric[j] ? number(value) : String(value);
    return { text, value, href: key === "id" || numeric[j] ? link(records[i].id, records[i]["env.device"]) : "" };
  }), 100);
  if (before) grid.order = before.order;
  if (keys.includes(by)) grid.sorted = { column: keys.indexOf(by), sign: before.sorted.sign };
  filter_records();
}

function filter_records() {
  const form = document.getElementById("filters");
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = FILTERS.filter((key) => form.elements[key]?.value).map((key) => [key, form.elements[key].value]);
  const [ids, device] = location.hash.startsWith("#records=") ? parse_link(location.hash) : [null, ""];
  const shown = grid.filter((i) => {
    const record = records[i];
    if (ids && !(ids.has(record.id) && measured_on(record, device))) return false;
    if (!wanted.every(([key, value]) => String(record[key]) === value)) return false;
    record.text ??= Object.entries(record).map(([, value]) => value).join(" ").toLowerCase();
    return words.every((word) => record.text.includes(word));
  });
  document.getElementById("shown").textContent = `${shown.toLocaleString("en")} of ${records.length.toLocaleString("en")}`;
  document.getElementById("reset").hidden = !(ids || words.length || wanted.length);
}

const parse_link = (hash) => {
  const [ids, device] = decodeURIComponent(hash.slice("#records=".length)).split("@");
  return [new Set(ids.split(",")), device ?? ""];
};

// one record opens by itself, several are listed
function follow() {
  if (!location.hash.startsWith("#records=")) return;
  const [ids, device] = parse_link(location.hash);
  document.getElementById("filters").reset();
  filter_records();
  document.getElementById("records").scrollIntoView();
  const known = records.filter((record) => ids.has(record.id) && measured_on(record, device));
  // of this table the link itself is gone
  if (known.length !== 1 || document.activeElement === document.body) document.getElementById("filters").elements.text.focus({ preventScroll: true });
  if (known.length === 1) show_record(known[0]);
}
const open_records = (href) => { if (!href) return; if (location.hash === href) follow(); else location.hash = href; };

function show_record(record) {
  const part = (prefix) => Object.entries(record).filter(([key]) => key.startsWith(`${prefix}.`))
    .map(([key, value]) => `<dt>${escaped(key.slice(prefix.length + 1))}</dt><dd>${escaped(value)}</dd>`).join("");
  const { text, ...plain } = record;
  const dialog = show_dialog(`Record ${escaped(record.id)} <small>${escaped(record.status)}</small>`, `
    ${record.reason ? `<p>${escaped(record.reason)}</p>` : ""}
    ${["metrics", "config", "env"].map((prefix) => `<h4>${prefix}</h4><dl>${part(prefix)}</dl>`).join("")}
    <p><button type="button" class="json">as JSON</button> <button autofocus>close</button></p>`);
  dialog.querySelector(".json").addEventListener("click", () => { dialog.close(); show_text(`Record ${record.id}`, JSON.stringify(plain, null, 1)); });
  dialog.scrollTop = 0;
}

function start_tables() {
  for (const details of document.querySelectorAll("details[data-table]")) {
    const spec = data.tables[details.dataset.table];
    details.addEventListener("toggle", () => { if (details.open) table_of(details, spec); });
    if (details.open) table_of(details, spec);
    for (const button of details.querySelectorAll("[data-format]"))
      button.addEventListener("click", () => show_text(`${spec.title}: ${button.textContent}`, spec[button.dataset.format]));
  }
}

function start_cards() {
  for (const button of document.querySelectorAll("[data-mechanism]"))
    button.addEventListener("click", () => {
      const form = document.getElementById("filters");
      history.replaceState(null, "", "#records");
      form.reset();
      if (form.elements["config.mechanism"]) form.elements["config.mechanism"].value = button.dataset.mechanism;
      filter_records();
      document.getElementById("records").scrollIntoView();
      form.elements.text.focus({ preventScroll: true });
    });
}

function start_theme() {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const say = () => { button.textContent = now() === "dark" ? "light" : "dark"; for (const chart of charts) chart.render(); };
  button.addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; say(); });
  dark.addEventListener("change", say);
  say();
}

async function start() {
  data = JSON.parse(await unpack("data"));
  start_records();
  start_tables();
  start_cards();
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
  for (const spec of data.charts) charts.push(new Chart(spec, document.getElementById(`chart-${spec.name}`)));
  start_theme();
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".legend button");
    if (!button) return;
    const { label } = button.dataset, legend = button.parentNode;
    choose(label);
    [...legend.querySelectorAll("button")].find((other) => other.dataset.label === label && !other.hidden)?.focus();
  });
  document.addEventListener("click", (event) => {
    const to = event.target.closest(`a[href^="#records="]`);
    if (!to || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open_records(to.hash);
  });
  document.getElementById("reset").addEventListener("click", () => {
    history.replaceState(null, "", "#records");
    document.getElementById("filters").reset();
    filter_records();
  });
  addEventListener("hashchange", follow);
  follow();
  document.documentElement.dataset.ready = "";
}
start().catch((error) => { document.getElementById("trouble").textContent = `This page could not start: ${error.message}`; throw error; });
