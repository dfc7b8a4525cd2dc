// Interactive charts. A chart's rows are filtered by its facets; `chosen` are labels, on all charts.
const chosen = new Set();
const charts = [];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => innerWidth < 560;

const number = (value, unit = "") => {
  if (value === undefined || value === null) return "";
  if (unit === "s") return value >= 1 ? `${+value.toPrecision(4)} s` : `${+(1e3 * value).toPrecision(4)} ms`;
  if (unit) {
    const [scale, prefix] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([s]) => value >= s) ?? [1, ""];
    return `${+(value / scale).toPrecision(4)} ${prefix}${unit}`;
  }
  return Math.abs(value) >= 1e6 || Number.isInteger(value) ? value.toLocaleString("en", { maximumSignificantDigits: 6 })
    : String(+value.toPrecision(4));
};

class Chart {
  constructor(spec, section) {
    this.spec = spec;
    this.plot = section.querySelector(".plot");
    this.legend = section.querySelector(".legend");
    this.live = section.querySelector("[aria-live]");
    this.controls = section.querySelector(".controls");
    this.facets = {};
    this.xs = spec.x.filter((axis) => spec.rows.some((row) => axis.key in row && !("word" in row)));
    [this.x, this.y] = [this.xs[0], spec.y[0]];
    this.log = { x: this.x.log, y: this.y.log };
    this.at = [0, -1];
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.controls.addEventListener("change", (event) => this.change(event.target));
    this.render();
    this.plot.on("plotly_click", ({ points }) => open_records(points[0].customdata));
  }

  get keys() { return [...this.spec.facets, ...(this.x.facets ?? [])]; }

  // rows of the chosen facets; a facet whose value has no rows falls back to its first that has
  rows() {
    let rows = this.spec.rows;
    this.options = {};
    for (const { key } of this.keys) {
      const values = [...new Set(rows.map((row) => row[key]).filter((value) => value !== undefined))];
      this.options[key] = values;
      if (!values.includes(this.facets[key])) this.facets[key] = key === "at" ? values.at(-1) : values[0];
      rows = rows.filter((row) => row[key] === undefined || row[key] === this.facets[key]);
    }
    return rows;
  }

  change(control) {
    const { name, value, checked } = control;
    if (name === "x" || name === "y") {
      this[name] = (name === "x" ? this.xs : this.spec.y).find((axis) => axis.key === value);
      this.log[name] = this[name].log;
    } else if (name === "logx" || name === "logy") this.log[name.at(-1)] = checked;
    else this.facets[name] = value;
    this.render();
    this.controls.querySelector(`[name="${name}"]`)?.focus();
  }

  render() {
    this.shown = this.rows();
    const labels = [...new Set(this.shown.filter((row) => this.x.key in row).map((row) => row.label))];
    const some = labels.filter((label) => chosen.has(label));
    this.visible = new Set(some.length ? some : labels);
    this.draw_controls();
    this.draw_legend(labels);
    this.plotted = this.traces();
    Plotly.react(this.plot, this.plotted, this.layout(), {
      responsive: true, displaylogo: false, displayModeBar: !narrow(),
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: this.spec.name },
    });
  }

  draw_controls() {
    const select = (name, label, values, value) => values.length < 2 ? "" :
      `<label>${label} <select name="${name}">${values.map(([key, text]) =>
        `<option value="${escaped(key)}"${key === value ? " selected" : ""}>${escaped(text)}</option>`).join("")}</select></label>`;
    const check = (name, label, on) => `<label><input type="checkbox" name="${name}"${on ? " checked" : ""}> ${label}</label>`;
    this.controls.innerHTML = [
      select("y", "show", this.spec.y.map((axis) => [axis.key, axis.label]), this.y.key),
      select("x", "against", this.xs.map((axis) => [axis.key, axis.label]), this.x.key),
      ...this.keys.map(({ key, label }) => select(key, label, this.options[key].map((value) => [value, value]), this.facets[key])),
      check("logx", "log x", this.log.x), check("logy", "log y", this.log.y),
    ].join("");
  }

  draw_legend(labels) {
    const entries = labels.map((label) => {
      const style = this.spec.styles[label], note = this.note(label);
      const text = escaped(label) + (note?.text ? ` <small>${note.text.replace(/\^(.*)/, "<sup>$1</sup>")}</small>` : "");
      return `<button type="button" data-label="${escaped(label)}" aria-pressed="${chosen.has(label)}"${this.visible.has(label) ? "" : ' class="off"'}>
        ${swatch(style)}${text}</button>`;
    });
    const all = `<button type="button" data-label=""${some_chosen(labels) ? "" : " hidden"}>show all</button>`;
    this.legend.innerHTML = all + entries.join("") + this.ranges(labels);
  }

  // over which N the exponents are fitted: what most have, then what others have
  ranges(labels) {
    const by = new Map();
    for (const label of labels) {
      const range = this.note(label)?.range;
      if (range) by.set(range, [...(by.get(range) ?? []), label]);
    }
    const [most, ...others] = [...by].sort(([, a], [, b]) => b.length - a.length);
    if (!most) return "";
    const words = [`exponents fitted over ${most[0]}`, ...others.map(([range, of]) => `${of.join(", ")}: ${range}`)];
    return `<small>${escaped(words.join("; "))}</small>`;
  }

  note(label) {
    return this.spec.notes.find((note) => note.label === label && note.y === this.y.key &&
      this.spec.facets.every(({ key }) => note[key] === this.facets[key]));
  }

  traces() {
    const key = this.x.y ?? this.y.key, traces = [], crossings = [], series = new Map();
    const labels = this.shown.filter((row) => this.visible.has(row.label));
    for (const row of labels) {
      if (!(this.x.key in row) || !(key in row) || "word" in row) continue;
      const name = row.series ?? row.label;
      if (!series.has(name)) series.set(name, []);
      series.get(name).push(row);
    }
    const lined = !this.x.size && this.x.key !== "decode_state_bytes";
    const largest = Math.max(...labels.map((row) => row[this.x.size] ?? 0));
    for (const rows of series.values()) {
      const label = rows[0].label, style = this.spec.styles[label], color = css(style.color);
      rows.sort((a, b) => a[this.x.key] - b[this.x.key]);
      const y = rows.map((row) => row[key]);
      const note = this.note(label);
      const bars = this.y.bars && rows.some((row) => `${key}_low` in row);
      traces.push({
        x: rows.map((row) => row[this.x.key]), y, name: label, showlegend: false,
        mode: style.symbol ? (lined ? (rows.length > 30 ? "lines" : "lines+markers") : "markers") : "lines",
        line: { color, width: 1.8, dash: style.dash },
        marker: {
          color: style.hollow ? css("--paper") : color, symbol: style.symbol || "circle", line: { color, width: 1.5 },
          size: rows.map((row) => this.x.size ? 7 + 40 * Math.sqrt((row[this.x.size] ?? 0) / (largest || 1)) : 8),
          opacity: this.x.size ? 0.6 : 1,
        },
        error_y: bars ? {
          type: "data", symmetric: false, thickness: 1.2, width: 3, color,
          array: rows.map((row, i) => (row[`${key}_high`] ?? y[i]) - y[i]),
          arrayminus: rows.map((row, i) => y[i] - (row[`${key}_low`] ?? y[i])),
        } : undefined,
        hovertext: rows.map((row) => this.hover(row, key, note)), hovertemplate: "%{hovertext}<extra></extra>",
        customdata: rows.map((row) => link(row.records, row.device)),
      });
      if (note?.cross && this.x.key === "n") crossings.push({
        x: [note.n], y: [note.at], mode: "markers", name: label, showlegend: false,
        marker: { symbol: "diamond-open", size: 13, color, line: { width: 1.5 } },
        hovertext: [`<b>${escaped(label)}</b><br>${note.cross}`], hovertemplate: "%{hovertext}<extra></extra>",
        customdata: [link(note.records, note.device)],
      });
    }
    if (!lined) this.name(traces);
    return [...traces, ...crossings, ...this.failures(labels)];
  }

  // the name beside the last point of a curve, where neither a point nor another name is
  name(traces) {
    const scaled = (axis, room) => {
      // a state of no bytes has no place on a log axis
      const value = this.log[axis] ? Math.log : Number, values = traces.flatMap((trace) => trace[axis].map(value)).filter(Number.isFinite);
      const low = Math.min(...values), high = Math.max(...values);
      return (of) => room * (0.06 + 0.88 * (value(of) - low) / (high - low || 1));
    };
    const wide = this.plot.clientWidth - 80, tall = (narrow() ? 340 : 460) - 80;
    const x = scaled("x", wide), down = scaled("y", tall), place = (trace, i) => [x(trace.x[i]), tall - down(trace.y[i])];
    const taken = traces.flatMap((trace) => trace.x.map((_, i) => around(place(trace, i), trace.marker.size[i], trace.marker.size[i])));
    for (const trace of traces) {
      const last = trace.x.length - 1, [left, top] = place(trace, last), size = trace.marker.size[last] + 4;
      const [w, h] = [6 * trace.name.length, 12];
      const room = Object.entries(SIDES).find(([, [right, below]]) => {
        const box = around([left + right * (size + w) / 2, top + below * (size + h) / 2], w, h);
        const inside = box[0] > 0 && box[1] > 0 && box[2] < wide && box[3] < tall;
        return inside && !taken.some((other) => meet(box, other)) && taken.push(box);
      });
      if (!room) continue;
      trace.mode += "+text";
      Object.assign(trace, { text: trace.x.map((_, i) => i === last ? escaped(trace.name) : ""), textposition: room[0] });
      trace.textfont = { size: 10, color: trace.line.color };
    }
  }

  // an x above the curves, one below another
  failures(rows) {
    const depth = {}, found = rows.filter((row) => "word" in row && this.x.key in row);
    return found.map((row) => {
      const x = row[this.x.key], color = css(this.spec.styles[row.label].color);
      depth[x] = (depth[x] ?? -1) + 1;
      return {
        x: [x], y: [-depth[x]], yaxis: "y2", mode: "markers", showlegend: false, name: row.label,
        marker: { symbol: "x-thin", size: 8, line: { color, width: 2.2 } },
        hovertext: [`<b>${escaped(row.label)}</b>, ${this.x.label} = ${number(x)}<br>${wrapped(escaped(row.reason))}`],
        hovertemplate: "%{hovertext}<extra></extra>", customdata: [link(row.records, row.device)],
      };
    });
  }

  hover(row, key, note) {
    const bars = `${key}_low` in row ? ` (${number(row[`${key}_low`], this.y.unit)} to ${number(row[`${key}_high`], this.y.unit)})` : "";
    const size = this.x.size && row[this.x.size] ? `<br>memory ${number(row[this.x.size], "B")}` : "";
    const ids = row.records.split(" ").filter(Boolean), record = find_record(ids[0], row.device);
    const from = record ? `<br>${ids.length > 1 ? `${ids.length} records` : `record ${ids[0]}`}, ${record["env.device"]}, ${String(record["env.date"]).slice(0, 10)}, commit ${String(record["env.commit"]).slice(0, 7)}` : "";
    return `<b>${escaped(row.label)}</b>${note?.text ? `  ${note.text.replace("^", "<sup>")}</sup>` : ""}<br>${this.x.label.split(",")[0]} ${number(row[this.x.key], this.x.unit)}` +
      `<br>${this.y.label} ${number(row[key], this.y.unit)}${bars}${size}${from}`;
  }

  layout() {
    const ink = css("--ink"), grid = css("--grid"), muted = css("--muted");
    const axis = (spec, log, title) => ({
      type: log ? "log" : "linear", gridcolor: grid, zerolinecolor: grid, linecolor: muted, automargin: true,
      title: title ? { text: title, standoff: 8, font: { size: 13 } } : undefined, tickfont: { size: 12 },
      tickformat: spec.unit ? "~s" : undefined, ticksuffix: spec.unit ?? "", dtick: log ? (spec.unit ? 1 : "D2") : undefined,
    });
    const x = axis(this.x, this.log.x, this.x.label);
    const lost = this.plotted.filter((trace) => trace.yaxis === "y2").map((trace) => -trace.y[0]);
    const deepest = Math.max(0, ...lost), top = lost.length ? Math.max(0.6, 0.95 - 0.04 * deepest) : 1;
    if (this.x.key === "n") {
      const values = [...new Set(this.shown.map((row) => row.n))].sort((a, b) => a - b);
      const step = Math.ceil(values.length / (narrow() ? 4 : 9));
      x.tickvals = values.filter((_, i) => (values.length - 1 - i) % step === 0);
      x.ticktext = x.tickvals.map((value) => value.toLocaleString("en"));
    }
    return {
      height: narrow() ? 340 : 460, margin: { l: 10, r: 12, t: 26, b: 10 }, hovermode: "closest",
      paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"), font: { color: ink, family: "system-ui, sans-serif" },
      hoverlabel: { bgcolor: css("--paper"), bordercolor: muted, font: { color: ink }, align: "left" },
      xaxis: x, yaxis: { ...axis(this.y, this.log.y), domain: [0, top] }, dragmode: narrow() ? false : "zoom",
      yaxis2: { anchor: "x", domain: [top, 1], range: [-deepest - 0.6, 0.6], visible: false, fixedrange: true },
      title: { text: this.y.label, x: 0, xref: "container", y: 0.99, yanchor: "top", font: { size: 13 } },
      uirevision: JSON.stringify([this.facets, this.x.key, this.y.key, this.log]),
    };
  }

  // the keyboard's hover: left and right along a curve, up and down between curves, Enter the record
  key(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const traces = this.plot.data.map((trace, i) => [trace, i]).filter(([trace]) => trace.customdata);
    if (event.key === "Escape") { choose(""); return; }
    if (event.key === "Enter") {
      const [trace] = traces[this.at[0]] ?? [];
      if (trace?.customdata[this.at[1]]) open_records(trace.customdata[this.at[1]]);
      return;
    }
    if (!(event.key in moves) || !traces.length) return;
    event.preventDefault();
    const [down, along] = moves[event.key];
    this.at[0] = (this.at[0] + down + traces.length) % traces.length;
    const [trace, curve] = traces[this.at[0]];
    this.at[1] = Math.min(Math.max(this.at[1] + along, 0), trace.x.length - 1);
    Plotly.Fx.hover(this.plot, [{ curveNumber: curve, pointNumber: this.at[1] }], trace.yaxis === "y2" ? "xy2" : "xy");
    this.live.textContent = trace.hovertext[this.at[1]].replace(/<br>/g, ", ").replace(/<[^>]*>/g, "");
  }
}

const some_chosen = (labels) => labels.some((label) => chosen.has(label));
const wrapped = (text) => text.replace(/(.{50}\S*) /g, "$1<br>");

// a click isolates, further ones add to it; "" shows all again
function choose(label) {
  if (!label) chosen.clear();
  else if (!chosen.delete(label)) chosen.add(label);
  for (const chart of charts) chart.render();
}

// where a name may stand beside its point: so many halves of its width and height to the right and down
const SIDES = { "middle right": [1, 0], "middle left": [-1, 0], "top center": [0, -1], "bottom center": [0, 1] };
const around = ([x, y], wide, tall) => [x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2];
const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

function swatch({ color, symbol, dash, hollow }) {
  const shape = symbol && `<path d="${data.outlines[symbol]}" transform="translate(14 7) scale(9)" vector-effect="non-scaling-stroke"/>`;
  return `<svg width="28" height="14" aria-hidden="true" style="stroke:var(${color});fill:var(${hollow ? "--paper" : color})">` +
    `<path d="M0 7H28" stroke-width="1.8" fill="none" stroke-dasharray="${dash === "solid" ? "" : dash.replaceAll("px", "")}"/>${shape}</svg>`;
}
