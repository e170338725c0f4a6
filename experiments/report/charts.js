// The charts of a run's report: Observable Plot draws them from the tables in #data, at the width there is, and
// again when that changes. Colours are CSS variables, so light, dark and print need no drawing of their own.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const MOST_DEVICES = 24;  // More than that are shown at a click.

const rowsOf = (columns) => {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
};
const table = (name) => (data[name] ? rowsOf(data[name]) : []);

const NONE = "–";
const inSeconds = (value) => (value == null ? NONE : `${value.toFixed(3)} s`);
const inBytes = (value) => {
  if (value == null) return NONE;
  const [scale, unit] = value >= 1e9 ? [1e9, "GB"] : value >= 1e6 ? [1e6, "MB"] : value >= 1e3 ? [1e3, "kB"] : [1, "B"];
  return `${(value / scale).toFixed(scale > 1 ? 3 : 0)} ${unit}`;
};
const inBits = (rate) => {
  const [scale, unit] = rate >= 1e6 ? [1e6, "Mbit/s"] : [1e3, "kbit/s"];
  return `${(rate / scale).toFixed(3)} ${unit}`;
};

const phaseColours = {
  type: "ordinal",
  domain: [...data.phases, "away", "round"],
  range: [...data.phases.map((phase) => `var(--phase-${phase})`), "var(--grey)", "var(--rule)"],
};
const PALETTE = ["--blue", "--orange", "--green", "--vermilion", "--purple", "--sky", "--grey", "--yellow"];
const STYLES = { noto: "--grey", twemoji: "--blue", openmoji: "--orange", fluent: "--green" };

// What all charts have in common. `describe` says of the row one points at: [title, name-value pairs, ...].
function plot({ describe, ...options }) {
  const chart = Plot.plot({ ...options, style: { fontSize: "12px", background: "none" } });
  if (!describe) return chart;
  let event = null;
  const answer = () => (chart.value && event ? showTip(event, ...describe(chart.value)) : hideTip());
  chart.addEventListener("pointermove", (moved) => { event = moved; answer(); });
  chart.addEventListener("input", answer);
  chart.addEventListener("pointerleave", hideTip);
  return chart;
}
// Marks that make rows answer; bars answer as they are, points are ringed.
const ring = { r: 5, fill: "none", stroke: "currentColor", strokeWidth: 1.5 };
const unseen = { ...ring, strokeOpacity: 0 };
const labelWidth = (labels, size = 7) => Math.min(140, 14 + size * d3.max(labels, (label) => String(label).length));
const everyFew = (count, width) => {
  const step = Math.max(1, Math.ceil(count / Math.max(1, width / 36)));
  return (value, index) => (index % step ? "" : String(value));
};

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function legend(keys) {
  const items = keys.map(([name, colour]) => {
    const mark = element("i", { class: "line" });
    mark.style.background = colour;
    return element("li", {}, mark, name);
  });
  return element("ul", { class: "legend" }, ...items);
}

// One tip for all charts, of text alone, kept within the window.
const tip = element("div", { class: "tip", role: "status" });
tip.hidden = true;
document.body.append(tip);
const hideTip = () => { tip.hidden = true; };

function showTip(event, title, ...tables) {
  tip.replaceChildren(element("b", {}, title), ...tables.map((pairs) => element("table", {}, element("tbody", {},
    ...pairs.map(([name, value, now]) => element("tr", now ? { class: "now" } : {},
      element("td", {}, name), element("td", {}, String(value))))))));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const below = event.clientY + 18 + height <= innerHeight;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${below ? event.clientY + 18 : Math.max(8, event.clientY - height - 12)}px`;
}

// The devices a chart shows: all of them, or the largest by `value` until all are asked for.
function chosen(rows, value, state) {
  if (rows.length <= MOST_DEVICES) return [rows, []];
  const button = element("button", { type: "button" });
  button.textContent = state.all ? `show the largest ${MOST_DEVICES}` : `show all ${rows.length} devices`;
  button.addEventListener("click", () => { state.all = !state.all; state.redraw(); });
  const said = state.all ? "" : `the ${MOST_DEVICES} largest of ${rows.length} devices`;
  const toolbar = element("div", { class: "toolbar" }, said, button);
  return [state.all ? rows : d3.sort(rows, (row) => -value(row)).slice(0, MOST_DEVICES), [toolbar]];
}

const charts = {};  // name -> (width, state) => what to show, or null where there is nothing

charts.latency = (width) => {
  const rounds = table("rounds").filter((row) => row.latency_s != null);
  if (!rounds.length) return null;
  const within = Math.min(width, Math.max(300, 90 + 72 * rounds.length));
  const describe = (row) => [`round ${row.round}`, [
    ["latency", inSeconds(row.latency_s)],
    ...(row.bound_s == null ? [] : [["bound", `${inSeconds(row.bound_s)} (${(row.latency_s / row.bound_s).toFixed(3)}×)`]]),
    ...(row.analytic_s == null ? [] : [["analytic", inSeconds(row.analytic_s)]]),
    ...(row.cohort == null ? [] : [["finished", `${row.clients_finished} of ${row.cohort} devices`]]),
    ...(row.extrapolated ? [["extrapolated", "in part"]] : []),
  ]];
  const mark = (name, colour) =>
    Plot.tickY(rounds.filter((row) => row[name] != null), { x: "round", y: name, stroke: colour, strokeWidth: 2.5 });
  return plot({
    describe,
    width: within,
    height: 250,
    marginLeft: 48,
    marginTop: 24,
    marginBottom: 40,
    x: { type: "band", domain: rounds.map((row) => row.round), label: "round", padding: 0.3, tickSize: 0,
      tickFormat: everyFew(rounds.length, within) },
    y: { label: "latency (s)", grid: true, nice: true, zero: true, ticks: 5 },
    marks: [
      Plot.barY(rounds, { x: "round", y: "latency_s", fill: "var(--blue)",
        fillOpacity: (row) => (row.extrapolated ? 0.5 : 1) }),
      mark("analytic_s", "var(--orange)"),
      mark("bound_s", "currentColor"),
      Plot.ruleY([0]),
      Plot.dot(rounds, Plot.pointerX({ x: "round", y: "latency_s", ...unseen })),
    ],
  });
};

charts.phases = (width, state) => {
  const total = (row) => d3.sum(data.phases, (phase) => row[`${phase}_s`]) + (row.turnaround_s ?? 0) * isAway(row);
  const isAway = (row) => (row.compute_s == null ? 1 : 0);
  const [rows, toolbar] = chosen(table("means"), total, state);
  if (!rows.length) return null;
  const bars = rows.flatMap((row) => {
    let end = 0;
    const lengths = data.phases.map((phase) => [phase, row[`${phase}_s`]]);
    if (isAway(row)) lengths.unshift(["away", row.turnaround_s]);
    return lengths.filter(([, length]) => length > 0)
      .map(([phase, length]) => ({ client: row.client, phase, x1: end, x2: (end += length) }));
  });
  const describe = (row) => [`${row.client}, mean of ${row.rounds} rounds`, [
    ...(isAway(row) ? [["turnaround", inSeconds(row.turnaround_s)]] : []),
    ...data.phases.filter((phase) => row[`${phase}_s`] != null).map((phase) => [phase, inSeconds(row[`${phase}_s`])]),
    ...(row.bound_s == null ? [] : [["bound", inSeconds(row.bound_s)]]),
  ]];
  const high = rows.length > MOST_DEVICES ? 12 : 24;
  return [...toolbar, plot({
    describe,
    width,
    height: 44 + high * rows.length,
    marginLeft: labelWidth(rows.map((row) => row.client)),
    marginTop: 6,
    marginBottom: 38,
    x: { label: "mean time in a round (s)", grid: true, zero: true },
    y: { domain: rows.map((row) => row.client), label: null, tickSize: 0, padding: 0.2 },
    color: phaseColours,
    marks: [
      Plot.barX(bars, { x1: "x1", x2: "x2", y: "client", fill: "phase" }),
      Plot.tickX(rows.filter((row) => row.bound_s != null), { x: "bound_s", y: "client", strokeWidth: 2.5 }),
      Plot.dot(rows, Plot.pointerY({ x: total, y: "client", ...unseen })),
    ],
  })];
};

// Payload within message within wire, from zero: what each level adds shows at the end.
const bytesChart = (way) => (width, state) => {
  const levels = ["wire", "message", "payload"].map((level) => `${level}_${way}_bytes`);
  const known = table("means").filter((row) => row[levels[2]] != null);
  const [rows, toolbar] = chosen(known, (row) => row[levels[0]] ?? row[levels[2]], state);
  if (!rows.length) return null;
  const largest = d3.max(rows, (row) => d3.max(levels, (level) => row[level]));
  const [scale, unit] = largest >= 1e9 ? [1e9, "GB"] : largest >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  const describe = (row) => [`${row.client}, mean of ${row.rounds} rounds`, [
    ...levels.toReversed().map((level) => [level.split("_")[0], inBytes(row[level])]),
    ["least possible", inBytes(row[`bound_${way}_bytes`])],
    ...(row[levels[0]] == null ? [] : [["wire / payload", (row[levels[0]] / row[levels[2]]).toFixed(4)]]),
  ]];
  const high = rows.length > MOST_DEVICES ? 12 : 24;
  const bar = (level, colour, inset) => Plot.barX(rows.filter((row) => row[level] != null), {
    x: (row) => row[level] / scale, y: "client", fill: colour, insetTop: high * inset, insetBottom: high * inset });
  return [...toolbar, plot({
    describe,
    width,
    height: 44 + high * rows.length,
    marginLeft: labelWidth(rows.map((row) => row.client)),
    marginRight: 12,
    marginTop: 6,
    marginBottom: 38,
    x: { label: `${unit}, mean of a round`, grid: true, zero: true, ticks: Math.max(2, width / 90) },
    y: { domain: rows.map((row) => row.client), label: null, tickSize: 0, padding: 0.2 },
    marks: [
      bar(levels[0], "var(--orange)", 0),
      bar(levels[1], "var(--blue)", 0.14),
      bar(levels[2], "var(--sky)", 0.26),
      Plot.tickX(rows, { x: (row) => row[`bound_${way}_bytes`] / scale, y: "client", strokeWidth: 2.5 }),
      Plot.dot(rows, Plot.pointerY({ x: (row) => (row[levels[0]] ?? row[levels[2]]) / scale, y: "client", ...unseen })),
    ],
  })];
};
charts["bytes-up"] = bytesChart("up");
charts["bytes-down"] = bytesChart("down");

const lossChart = (x, label) => (width) => {
  const rows = table("losses").filter((row) => row[x] != null);
  const styles = [...new Set(rows.map((row) => row.style))];
  const others = PALETTE.filter((name) => !Object.values(STYLES).includes(name));
  const colours = styles.map((style, index) =>
    style === "all" ? "var(--ink)" : `var(${STYLES[style] ?? others[index % others.length]})`);
  const whole = x === "round" ? { tickFormat: "d", ticks: Math.min(d3.max(rows, (row) => row.round), width / 40) } : {};
  return [legend(styles.map((style, index) => [style, colours[index]])), plot({
    describe: (row) => [`${row.style}, round ${row.round}`, [["loss", row.loss.toFixed(6)], ["at", inSeconds(row.t_s)]]],
    width,
    height: 280,
    marginLeft: 52,
    marginTop: 24,
    marginBottom: 38,
    x: { label, ...whole },
    y: { label: "held-out denoising loss", grid: true, nice: true, ticks: 6 },
    color: { type: "ordinal", domain: styles, range: colours },
    marks: [
      Plot.lineY(rows, { x, y: "loss", stroke: "style", strokeWidth: (row) => (row.style === "all" ? 3 : 1.75) }),
      Plot.dot(rows, { x, y: "loss", fill: "style", r: 2.75 }),
      Plot.dot(rows, Plot.pointer({ x, y: "loss", ...ring })),
    ],
  })];
};
charts["loss-by-round"] = lossChart("round", "round (0: before training)");
charts["loss-by-time"] = lossChart("t_s", "emulated time since round 1 began (s)");

charts["training-loss"] = (width) => {
  const rows = table("clients").filter((row) => row.loss != null);
  const devices = data.devices.filter((device) => rows.some((row) => row.client === device));
  const few = devices.length <= PALETTE.length;
  const colours = devices.map((_, index) => (few ? `var(${PALETTE[index]})` : "var(--grey)"));
  const means = d3.rollups(rows, (some) => d3.mean(some, (row) => row.loss), (row) => row.round);
  const rounds = d3.extent(rows, (row) => row.round);
  return [
    legend(few ? devices.map((device, index) => [device, colours[index]])
      : [["each device", "var(--grey)"], ["mean", "var(--blue)"]]),
    plot({
      describe: (row) => [`${row.client}, round ${row.round}`, [["training loss", row.loss.toFixed(6)]]],
      width,
      height: 240,
      marginLeft: 52,
      marginTop: 24,
      marginBottom: 38,
      x: { label: "round", tickFormat: "d", ticks: Math.max(1, Math.min(rounds[1] - rounds[0], width / 40)) },
      y: { label: "training loss", grid: true, nice: true, ticks: 5 },
      color: { type: "ordinal", domain: devices, range: colours },
      marks: [
        Plot.lineY(rows, { x: "round", y: "loss", stroke: "client", strokeWidth: few ? 1.75 : 0.75 }),
        Plot.dot(rows, { x: "round", y: "loss", fill: "client", r: few ? 2.75 : 1 }),
        few ? null : Plot.lineY(means, { x: "0", y: "1", stroke: "var(--blue)", strokeWidth: 2.5 }),
        Plot.dot(rows, Plot.pointer({ x: "round", y: "loss", ...ring })),
      ],
    }),
  ];
};

charts.retrieval = (width) => {
  const names = { recall_at_1: "R@1", recall_at_5: "R@5", style_accuracy: "right style" };
  const rows = table("retrieval").filter((row) => row.style === "all").flatMap((row) =>
    Object.entries(names).map(([key, measure]) => ({ measure, source: `${row.source}, ${row.names}`, names: row.names,
      value: row[key], low: row[`${key}_low`], high: row[`${key}_high`] })));
  const sources = [...new Set(rows.map((row) => row.source))];
  const facet = width > 600 ? { fx: "measure" } : { fy: "measure" };
  const percent = (value) => (value == null ? NONE : `${(100 * value).toFixed(1)} %`);
  return plot({
    describe: (row) => [row.source, [[row.measure, percent(row.value)],
      ...(row.low == null ? [] : [["95 % interval", `${percent(row.low)} to ${percent(row.high)}`]])]],
    width,
    height: width > 600 ? 60 + 22 * sources.length : 3 * (20 + 20 * sources.length) + 60,
    marginLeft: labelWidth(sources),
    marginRight: width > 600 ? 12 : 70,
    fx: { label: null },
    fy: { label: null },
    x: { label: "share of drawings (%)", transform: (value) => 100 * value, domain: [0, 100], grid: true, ticks: 4 },
    y: { domain: sources, label: null, tickSize: 0 },
    color: { type: "ordinal", domain: [...new Set(rows.map((row) => row.names))], range: ["var(--blue)", "var(--orange)"] },
    marks: [
      Plot.ruleY(rows.filter((row) => row.low != null), { x1: "low", x2: "high", y: "source", stroke: "names", strokeWidth: 2, ...facet }),
      Plot.dot(rows, { x: "value", y: "source", fill: "names", r: 4, ...facet }),
      Plot.dot(rows, Plot.pointer({ x: "value", y: "source", ...facet, ...ring, r: 7 })),
    ],
  });
};

charts.channel = (width, state) => {
  const devices = [...new Set(Object.keys(data.channel).map((key) => key.slice(0, key.lastIndexOf(" "))))];
  state.device ??= data.devices.find((device) => devices.includes(device)) ?? devices[0];
  const select = element("select", { "aria-label": "device" }, ...devices.map((device) => new Option(device)));
  select.value = state.device;
  select.addEventListener("change", () => { state.device = select.value; state.redraw(); });
  const rows = ["down", "up"].flatMap((way) => {
    const found = data.channel[`${state.device} ${way}`];
    return found ? rowsOf(found).map((row) => ({ ...row, way })) : [];
  });
  const moves = timelineSpans().filter((span) =>
    span.lane === state.device && (span.phase === "download" || span.phase === "upload"));
  const domain = d3.extent(rows, (row) => row.t_s);
  const colours = { type: "ordinal", domain: ["down", "up"], range: ["var(--orange)", "var(--blue)"] };
  const describe = (row) => [`${row.way}link at ${inSeconds(row.t_s)}`,
    [["rate", inBits(row.rate_bps)], ["SNR", `${row.snr_db} dB`], ["cell", row.cell]]];
  const line = (y, label, last) => plot({
    describe,
    width,
    height: last ? 190 : 170,
    marginLeft: 66,
    marginTop: 24,
    marginBottom: last ? 38 : 20,
    x: { domain, label: last ? "emulated time since round 1 began (s)" : null },
    y: { label, grid: true, nice: true, ticks: 4, zero: y === "rate_bps", transform: y === "rate_bps" ? (bps) => bps / 1e6 : undefined },
    color: colours,
    marks: [
      Plot.lineY(rows, { x: "t_s", y, stroke: "way", curve: "step-after", strokeWidth: 1.5, clip: true }),
      Plot.dot(rows, Plot.pointerX({ x: "t_s", y, ...ring, r: 3 })),
    ],
  });
  const used = plot({
    width,
    height: 52,
    marginLeft: 66,
    marginTop: 4,
    marginBottom: 4,
    x: { domain, axis: null },
    y: { domain: ["download", "upload"], label: null, tickSize: 0, padding: 0.25 },
    color: { ...colours, domain: ["download", "upload"] },
    marks: [Plot.barX(moves, { x1: "start", x2: "end", y: "phase", fill: "phase", clip: true })],
  });
  const toolbar = element("div", { class: "toolbar" }, element("label", {}, "device ", select));
  const key = legend([["downlink", "var(--orange)"], ["uplink", "var(--blue)"]]);
  return [toolbar, key, line("rate_bps", "commanded rate (Mbit/s)", false), used, line("snr_db", "SNR (dB)", true)];
};

function draw(place) {
  const width = Math.floor(place.clientWidth);
  if (!width || width === place.drawnAt) return;  // within a closed fold, or as it is already
  place.drawnAt = width;
  place.state ??= { redraw() { place.drawnAt = 0; draw(place); } };
  let made;
  try {
    made = charts[place.dataset.chart](width, place.state);
  } catch (error) {  // The others are drawn all the same.
    console.error(error);
    made = element("p", { class: "note" }, `This chart could not be drawn: ${error.message}`);
  }
  if (made === null) {
    place.remove();
    return;
  }
  place.replaceChildren(...[made].flat());
  for (const drawing of place.querySelectorAll("svg")) {
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", place.dataset.label);
  }
}
