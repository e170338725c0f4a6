// The timeline: a lane for the server and each device, a bar a phase. Drag or pinch to zoom, point for numbers.
"use strict";

const MOST_BARS = 6000;  // Of more only the longest are drawn, until one zooms in.

let knownSpans = null;
function timelineSpans() {
  if (knownSpans === null) {
    const { lanes, lane, round, phase, start, end, open } = data.timeline ?? { lanes: [], lane: [], open: [] };
    const unfinished = new Set(open);
    knownSpans = lane.map((number, i) => ({
      lane: lanes[number], round: round[i], phase: phase[i], start: start[i], end: end[i], open: unfinished.has(i),
    }));
  }
  return knownSpans;
}

charts.timeline = (width, state) => {
  if (!data.timeline) return null;
  if (!state.spans) {
    state.spans = timelineSpans();
    state.rounds = state.spans.filter((span) => span.phase === "round");
    state.byLane = d3.group(state.spans, (span) => span.lane);
    state.rows = d3.index(table("clients"), (row) => row.client, (row) => row.round);
    state.whole = [Math.min(0, d3.min(state.spans, (span) => span.start)), d3.max(state.spans, (span) => span.end)];
    state.shown = state.whole;
    state.view = element("div", { class: "view" });
    state.note = element("p", { class: "quiet" });
    state.toolbar = timelineToolbar(state);
  }
  state.width = width;
  state.left = labelWidth(data.timeline.lanes);
  drawLanes(state);
  return [state.toolbar, state.view, state.note, overview(state)];
};

function timelineToolbar(state) {
  const button = (text, action) => {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", action);
    return made;
  };
  const select = element("select", { "aria-label": "round" }, new Option("whole run", ""),
    ...state.rounds.map((span) => new Option(`round ${span.round}`, span.round)));
  const goTo = (number) => {
    const span = state.rounds.find((one) => String(one.round) === String(number));
    zoom(state, span ? [span.start, span.end] : state.whole);
  };
  select.addEventListener("change", () => goTo(select.value));
  state.select = select;
  const step = (by) => () => {
    const middle = d3.mean(state.shown);
    const at = state.rounds.findIndex((span) => span.end >= middle);
    const isOne = select.value !== "";
    const next = state.rounds[Math.max(0, Math.min(state.rounds.length - 1, isOne ? at + by : at))];
    if (next) goTo(next.round);
  };
  const scaled = (factor) => () => {
    const [from, to] = state.shown, middle = (from + to) / 2, half = (factor * (to - from)) / 2;
    zoom(state, [middle - half, middle + half]);
  };
  return element("div", { class: "toolbar" }, select, button("‹ earlier", step(-1)), button("later ›", step(1)),
    button("+", scaled(0.5)), button("−", scaled(2)));
}

function zoom(state, [from, to], byOverview = false) {
  const [first, last] = state.whole;
  const length = Math.min(Math.max(to - from, 1e-4), last - first);
  const start = Math.min(Math.max(from, first), last - length);
  state.shown = [start, start + length];
  const round = state.rounds.find((span) => Math.abs(span.start - start) < 1e-6 && Math.abs(span.end - start - length) < 1e-6);
  state.select.value = round ? round.round : "";
  drawLanes(state);
  if (!byOverview) state.showWindow?.();
}

function drawLanes(state) {
  const { lanes } = data.timeline;
  const [from, to] = state.shown;
  const high = lanes.length <= 13 ? 28 : lanes.length <= 41 ? 18 : 11;
  const seen = state.spans.filter((span) => span.end >= from && span.start <= to);
  const bars = seen.length <= MOST_BARS ? seen
    : d3.sort(seen, (span) => span.start - span.end).slice(0, MOST_BARS);
  state.note.textContent = bars.length === seen.length ? ""
    : `The ${MOST_BARS} longest of ${seen.length} phases are drawn; zoom in to see the others.`;
  const rounds = state.rounds.filter((span) => span.end > from && span.start < to);
  const step = Math.ceil(rounds.length / Math.max(1, state.width / 70));
  const size = { marginLeft: state.left, marginTop: 22, marginBottom: 38, marginRight: 12 };
  const bar = { x1: "start", x2: "end", y: "lane", fill: "phase", clip: true };
  const wide = rounds.filter((span) => !span.open && span.start >= from && span.end <= to
    && ((span.end - span.start) / (to - from)) * (state.width - state.left) > 64 && high > 11);
  const chart = plot({
    ...size,
    width: state.width,
    height: size.marginTop + size.marginBottom + high * lanes.length,
    x: { domain: state.shown, label: "emulated time since round 1 began (s)", grid: true },
    y: { domain: lanes, axis: null, padding: high > 11 ? 0.2 : 0.1 },
    color: phaseColours,
    marks: [
      Plot.axisY(lanes, { tickSize: 0, label: null, fontSize: high > 11 ? 12 : 9 }),
      Plot.ruleX(rounds.filter((span) => span.start >= from), { x: "start", stroke: "var(--muted)", strokeOpacity: 0.6,
        strokeDasharray: "2,3" }),
      Plot.text(rounds.filter((_, index) => index % step === 0), { x: (span) => Math.max(span.start, from),
        text: (span) => `round ${span.round}`, frameAnchor: "top", textAnchor: "start", dy: -16, dx: 2, fill: "var(--muted)" }),
      // The server's open rounds lie behind what it does in them.
      Plot.barX(rounds.filter((span) => !span.open), { ...bar, insetRight: 1 }),
      Plot.barX(bars.filter((span) => !span.open && span.phase !== "round"), bar),
      Plot.text(wide, { x: (span) => (span.start + span.end) / 2, y: "lane", fill: "var(--muted)",
        text: (span) => inSeconds(span.end - span.start) }),
      Plot.barX(bars.filter((span) => span.open), { ...bar, fillOpacity: 0.35, stroke: "var(--vermilion)",
        strokeDasharray: "3,2", title: () => "did not end" }),
    ],
  });
  const scale = chart.scale("x");
  const places = { from: size.marginLeft, to: state.width - size.marginRight, top: size.marginTop, high };
  addDragging(chart, state, scale, places);
  chart.addEventListener("pointermove", (event) => point(event, chart, state, scale, places));
  chart.addEventListener("pointerdown", (event) => point(event, chart, state, scale, places));
  chart.addEventListener("pointerleave", hideTip);
  chart.addEventListener("dblclick", () => zoom(state, state.whole));
  chart.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // Scrolling stays scrolling; pinching comes with ctrl.
    event.preventDefault();
    const at = scale.invert(d3.pointer(event, chart)[0]), factor = Math.exp(event.deltaY / 300);
    zoom(state, [at - (at - from) * factor, at + (to - at) * factor]);
  }, { passive: false });
  hideTip();
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", "Phases of every device over time");
  state.view.replaceChildren(chart);
}

function addDragging(chart, state, scale, { from, to, top, high }) {
  const brush = d3.brushX().touchable(false)  // A finger scrolls the page; the strip below is for fingers.
    .extent([[from, top], [to, top + high * data.timeline.lanes.length]])
    .on("end", ({ selection, sourceEvent }) => {
      if (sourceEvent && selection && selection[1] - selection[0] > 4) zoom(state, selection.map(scale.invert));
    });
  const layer = d3.select(chart).append("g").attr("class", "overview").call(brush);
  layer.select(".overlay").attr("cursor", "crosshair");
}

function overview(state) {
  const high = 34, left = state.left, right = state.width - 12;
  const chart = plot({
    width: state.width,
    height: high,
    marginLeft: left,
    marginRight: 12,
    marginTop: 2,
    marginBottom: 2,
    x: { domain: state.whole, axis: null },
    y: { axis: null },
    marks: [
      Plot.barX(state.rounds, { x1: "start", x2: "end", fill: "var(--rule)", insetLeft: 0.5, insetRight: 0.5 }),
      Plot.text(state.rounds.length * 22 < state.width ? state.rounds : [],
        { x: (span) => (span.start + span.end) / 2, text: (span) => String(span.round), fill: "var(--muted)" }),
    ],
  });
  const scale = chart.scale("x");
  const brush = d3.brushX().extent([[left, 2], [right, high - 2]]).on("brush end", ({ selection, sourceEvent, type }) => {
    if (!sourceEvent) return;
    if (selection) zoom(state, selection.map(scale.invert), true);
    else if (type === "end") zoom(state, state.whole);
  });
  const layer = d3.select(chart).append("g").call(brush);
  state.showWindow = () => layer.call(brush.move, state.shown.map(scale.apply));
  state.showWindow();
  return element("div", { class: "overview" }, chart);
}

function point(event, chart, state, scale, { from, to, top, high }) {
  const [x, y] = d3.pointer(event, chart);
  const lane = data.timeline.lanes[Math.floor((y - top) / high)];
  const time = scale.invert(x), slack = scale.invert(x + 2) - time;
  const near = x < from || x > to ? [] : (state.byLane.get(lane) ?? [])
    .filter((span) => span.start - slack <= time && time <= span.end + slack);
  // The shortest one there; one that is truly there before one that is only near.
  const span = d3.least(near, (a, b) => {
    const inside = (one) => (one.start <= time && time <= one.end ? 0 : 1);
    return inside(a) - inside(b) || a.end - a.start - (b.end - b.start);
  });
  if (!span) return hideTip();
  showTip(event, ...(lane === data.timeline.lanes[0] ? aboutRound(span) : aboutDevice(span, state)));
}

const took = (span) => (span.open ? "did not end" : inSeconds(span.end - span.start));
const fromTo = (span) => ["from, to", `${span.start.toFixed(3)}, ${span.end.toFixed(3)} s`];

function aboutRound(span) {
  const row = table("rounds").find((one) => one.round === span.round) ?? {};
  const pairs = [[span.phase === "round" ? "latency" : span.phase, took(span), true], fromTo(span)];
  if (row.bound_s != null) pairs.push(["bound", inSeconds(row.bound_s)]);
  if (row.analytic_s != null) pairs.push(["analytic", inSeconds(row.analytic_s)]);
  if (row.cohort != null) pairs.push(["finished", `${row.clients_finished} of ${row.cohort} devices`]);
  return [`server · round ${span.round}`, pairs];
}

function aboutDevice(span, state) {
  const row = state.rows.get(span.lane)?.get(span.round) ?? {};
  const about = [fromTo(span)];
  const way = { download: "down", upload: "up" }[span.phase];
  if (way && row[`payload_${way}_bytes`] != null) {
    const payload = row[`payload_${way}_bytes`];
    about.push(["payload", inBytes(payload)]);
    if (row[`wire_${way}_bytes`] != null) about.push(["wire", inBytes(row[`wire_${way}_bytes`])]);
    if (!span.open && span.end > span.start) about.push(["goodput", inBits((payload * 8) / (span.end - span.start))]);
    if (row[`bound_${span.phase}_s`] != null) about.push(["bound", inSeconds(row[`bound_${span.phase}_s`])]);
    if (row.retransmitted_segments) about.push(["retransmitted, round", `${row.retransmitted_segments} segments`]);
    if (row.extrapolated) about.push(["extrapolated", "in part"]);
  }
  if (span.phase === "compute") {
    if (row.steps != null) about.push(["steps", row.steps]);
    if (row.cpu_s != null) about.push(["processor time", inSeconds(row.cpu_s)]);
    if (row.loss != null) about.push(["loss", row.loss.toFixed(4)]);
  }
  const outcome = row.outcome && row.outcome !== "finished" ? ` · ${row.outcome}` : "";
  const phases = state.byLane.get(span.lane).filter((one) => one.round === span.round)
    .map((one) => [one.phase, took(one), one.phase === span.phase]);
  return [`${span.lane} · round ${span.round} · ${span.phase}${outcome}`, about, phases];
}

// All charts are defined: draw them, and again when their place changes its width.
const places = document.querySelectorAll(".chart");
places.forEach(draw);
const observer = new ResizeObserver((entries) => requestAnimationFrame(() => entries.forEach(({ target }) => draw(target))));
places.forEach((place) => observer.observe(place));
