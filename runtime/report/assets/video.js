const found = data.detections;
const total = found.score.length;
const judged = data.truth !== null;
const truth = data.truth ?? [];
const [HIT, NOT_JUDGED] = [0, -1];
const [TRUTH_HEIGHT, GAP, PADDING] = [7, 3, 6];
const [LANE, LEAST_LANE, LANES_HEIGHT] = [16, 3, 84];
const MOST_NUMBERS = 300;
const TABLE_STEP = 100;
const WIDEST = 60000;
const PAPER = 1000; // between A4 and US Letter, landscape, without margins
const video = $("video");
const plot = $("plot");
const canvas = $("canvas");
const playhead = $("playhead");
const duration = data.duration;

const state = { threshold: data.threshold, shown: 0, zoom: 1, width: 0, selected: -1, position: 0, byClass: !judged };
const rows = data.rows.map((row) => ({ ...row, detections: [], truths: [], shown: 0 }));
for (let i = 0; i < total; i++) rows[found.row[i]].detections.push(i);
truth.forEach((one, i) => rows[one.row].truths.push(i));
const byStart = [...Array(total).keys()].sort((a, b) => found.start[a] - found.start[b] || a - b);
const finder = truth.map(() => -1);
if (judged) found.truth.forEach((owner, i) => (owner >= 0 && finder[owner] < 0 ? (finder[owner] = i) : 0));
const bars = [];
const truthBars = [];

// What is shown -------------------------------------------------------------------------------------------------------

/** Return how many detections have at least a score; they are sorted by it, so these are the first ones. */
function countAbove(threshold) {
  let [low, high] = [0, total];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (found.score[middle] >= threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Return how many of ascending indices are below `end`. */
function countBelow(indices, end) {
  let [low, high] = [0, indices.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (indices[middle] < end) low = middle + 1;
    else high = middle;
  }
  return low;
}

const isFound = (i) => finder[i] >= 0 && finder[i] < state.shown;

/** Draw all rows, once; what the threshold hides is only hidden. */
function makeRows() {
  for (const row of rows) {
    row.lanes = [0];
    for (const i of row.detections) row.lanes.push(Math.max(row.lanes.at(-1), found.lane[i] + 1));
    row.group = draw("g", { class: "bars" });
    row.truthGroup = draw("g", { class: "truths" });
    row.numbers = draw("g", { class: "numbers" });
    row.ring = draw("rect", { class: "ring", visibility: "hidden" });
    row.svg = draw("svg", { class: "lane", preserveAspectRatio: "none" });
    row.svg.style.setProperty("--class", row.colour);
    row.svg.append(row.truthGroup, row.group, row.numbers, row.ring);
    for (const i of [...row.detections].reverse()) {
      const verdict = judged ? (found.kind[i] === HIT ? "hit" : found.kind[i] === NOT_JUDGED ? "" : "wrong") : "";
      bars[i] = draw("rect", {
        class: verdict,
        x: found.start[i],
        width: Math.max(found.end[i] - found.start[i], 0),
        y: found.lane[i] + 0.06,
        height: 0.88,
        "fill-opacity": (0.3 + 0.7 * Math.min(Math.max(found.score[i], 0), 1)).toFixed(2),
      });
      bars[i].detection = i;
      row.group.append(bars[i]);
    }
    for (const i of row.truths) {
      const one = truth[i];
      truthBars[i] = draw("rect", { x: one.start, width: Math.max(one.end - one.start, 0), y: 0, height: 1 });
      truthBars[i].truth = i;
      row.truthGroup.append(truthBars[i]);
    }
    row.number = make("span", { class: "number muted" });
    row.label = make("div", { class: "label" }, make("bdi", { class: "name", title: row.name.slice(0, 300) }, row.name), row.number);
    row.label.style.setProperty("--class", row.colour);
    row.element = make("div", { class: "row" }, row.label, row.svg);
    row.svg.row = row;
  }
  $("rows").append(...rows.map((row) => row.element));
}

/** Show the detections of at least the threshold, hide the others, and count. */
function showAbove(threshold) {
  state.threshold = threshold;
  const before = state.shown;
  state.shown = countAbove(threshold);
  for (let i = Math.min(before, state.shown); i < Math.max(before, state.shown); i++) {
    bars[i].classList.toggle("off", i >= state.shown);
  }
  truthBars.forEach((bar, i) => bar.setAttribute("class", isFound(i) ? "found" : "missed"));
  let hidden = 0;
  for (const row of rows) {
    row.shown = countBelow(row.detections, state.shown);
    const empty = !row.shown && !row.truths.length;
    hidden += empty;
    row.element.hidden = empty;
    const hits = row.truths.filter(isFound).length;
    row.number.textContent = judged ? (row.truths.length ? `${hits} of ${row.truths.length}` : "–") : String(row.shown);
    row.number.title = `${count(row.shown, "detection")} shown${judged ? `, ${hits} of ${count(row.truths.length, "true action")} found` : ""}`;
    if (!empty) layRow(row);
  }
  $("below").hidden = !hidden;
  $("below").textContent = `${count(hidden, "class has", "classes have")} no detection of this score.`;
  $("empty").hidden = hidden < rows.length;
  $("empty").textContent = total ? "No detection has this score." : "Nothing was detected in this video.";
  if (state.selected >= state.shown) select(-1);
  drawThreshold();
  listSoon();
  showNow();
}

function drawThreshold() {
  $("threshold").value = state.threshold;
  $("threshold").setAttribute("aria-valuetext", `${score(state.threshold)}, ${count(state.shown, "detection")} shown`);
  $("threshold-text").textContent = score(state.threshold);
  $("count").textContent = state.shown.toLocaleString("en");
  $("back").hidden = state.threshold === data.threshold;
  $("count-of").textContent = `of ${count(total, "detection")}`;
  $("shade")?.setAttribute("width", 100 * state.threshold);
  if (!judged) return;
  let [hits, wrong] = [0, 0];
  for (let i = 0; i < state.shown; i++) {
    hits += found.kind[i] === HIT;
    wrong += found.kind[i] > HIT;
  }
  const missed = truth.length - truth.filter((_, i) => isFound(i)).length;
  const all = 2 * hits + wrong + missed;
  $("hits").textContent = hits;
  $("wrong").textContent = wrong;
  $("missed").textContent = missed;
  $("precision").textContent = hits + wrong ? score2(hits / (hits + wrong)) : "–";
  $("recall").textContent = truth.length ? score2(hits / truth.length) : "–";
  $("f1").textContent = all ? score2((2 * hits) / all) : "–";
}

const score2 = (value) => value.toFixed(2);

/** Draw how many detections have which score, above the slider. */
function drawHistogram() {
  const BINS = 50;
  const bins = Array.from({ length: BINS }, () => [0, 0]);
  for (let i = 0; i < total; i++) {
    const bin = Math.min(Math.max(Math.floor(found.score[i] * BINS), 0), BINS - 1);
    bins[bin][judged && found.kind[i] === HIT ? 0 : 1]++;
  }
  const highest = Math.max(1, ...bins.map(([hits, others]) => hits + others));
  const scale = (number) => 36 * Math.sqrt(number / highest); // few good ones beside many poor ones stay visible
  bins.forEach(([hits, others], k) => {
    const height = scale(hits + others);
    const share = hits / Math.max(hits + others, 1);
    const place = { x: (100 * k) / BINS + 0.15, width: 100 / BINS - 0.3 };
    if (others) $("histogram").append(draw("rect", { class: judged ? "wrong" : "", y: 40 - height, height: height * (1 - share), ...place }));
    if (hits) $("histogram").append(draw("rect", { class: "hit", y: 40 - height * share, height: height * share, ...place }));
  });
  $("histogram").append(draw("rect", { id: "shade", class: "shade", x: 0, y: 0, height: 40, width: 0 }));
}

// Where it is shown ---------------------------------------------------------------------------------------------------

const scale = () => state.width / duration;
const labelWidth = () => (rows.length ? rows.find((row) => !row.element.hidden)?.svg.getBoundingClientRect().left - canvas.getBoundingClientRect().left || 0 : 0);

/** Fit everything to the width of the page and the zoom. */
function lay() {
  const sideways = getComputedStyle(canvas).getPropertyValue("--label").trim();
  const room = (isPrinting() ? PAPER : plot.clientWidth) - (parseFloat(sideways) || 0) - 12;
  const most = Math.max(1, WIDEST / Math.max(room, 1));
  state.zoom = Math.min(Math.max(state.zoom, 1), most);
  state.width = Math.max(room * state.zoom, 50);
  canvas.style.setProperty("--width", `${state.width}px`);
  $("zoom-out").disabled = $("zoom-fit").disabled = state.zoom === 1;
  $("zoom-in").disabled = state.zoom >= most;
  for (const row of rows) if (!row.element.hidden) layRow(row, true);
  drawAxis();
  layStrip();
  movePlayhead();
}

/** Set height and scale of a row; bars are in seconds and lanes, so none of them changes. */
function layRow(row, always = false) {
  const lanes = Math.max(row.lanes[row.shown], row.shown ? 1 : 0);
  const lane = lanes ? Math.min(LANE, Math.max(LEAST_LANE, LANES_HEIGHT / lanes)) : 0;
  const above = row.truths.length ? TRUTH_HEIGHT + (lanes ? GAP : 0) : 0;
  const height = 2 * PADDING + Math.max(above + lanes * lane, 14);
  const laid = `${state.width} ${lanes}`;
  if (laid !== row.laid || always) {
    row.laid = laid;
    Object.assign(row, { lane, above, height });
    row.svg.setAttribute("viewBox", `0 0 ${state.width} ${height}`);
    row.svg.setAttribute("height", height);
    row.truthGroup.setAttribute("transform", `translate(0 ${PADDING}) scale(${scale()} ${TRUTH_HEIGHT})`);
    row.group.setAttribute("transform", `translate(0 ${PADDING + above}) scale(${scale()} ${lane})`);
    if (state.selected >= 0 && rows[found.row[state.selected]] === row) drawRing(row);
  }
  writeNumbers(row);
}

/** Write the scores on bars that are wide enough. */
function writeNumbers(row) {
  const numbers = [];
  for (let k = 0; row.lane >= 12 && k < Math.min(row.shown, MOST_NUMBERS); k++) {
    const i = row.detections[k];
    if ((found.end[i] - found.start[i]) * scale() < 30) continue;
    const x = ((found.start[i] + found.end[i]) / 2) * scale();
    const y = PADDING + row.above + (found.lane[i] + 0.5) * row.lane;
    numbers.push(draw("text", { x, y, fill: inkOf(i, row) }, score2(found.score[i])));
  }
  row.numbers.replaceChildren(...numbers);
}

/** Return the colour of a score on a bar, as the theme has it; paper is white. */
function inkOf(i, row) {
  if (state.byClass || found.kind[i] === NOT_JUDGED) return readable(row.colour, Number(bars[i].getAttribute("fill-opacity")));
  return found.kind[i] === HIT ? readable(themed("--hit"), Number(bars[i].getAttribute("fill-opacity"))) : themed("--ink");
}

function drawAxis() {
  const step = tickStep(scale(), 80);
  const labels = [];
  const lines = [];
  for (let k = 0; k * step <= duration + 1e-6; k++) {
    const x = k * step * scale();
    const anchor = k === 0 ? "start" : x > state.width - 20 ? "end" : "middle";
    labels.push(draw("text", { x, y: 16, "text-anchor": anchor }, tick(k * step, step)));
    lines.push(draw("line", { x1: x, x2: x, y1: 0, y2: 100 }));
  }
  $("axis").setAttribute("viewBox", `0 0 ${state.width} 22`);
  $("axis").replaceChildren(draw("line", { x1: 0, x2: state.width, y1: 0.5, y2: 0.5 }), ...labels);
  $("grid").setAttribute("viewBox", `0 0 ${state.width} 100`);
  $("grid").replaceChildren(...lines);
}

function makeStrip() {
  $("strip").hidden = !data.thumbnails.length;
  $("strip").append(...data.thumbnails.map((address) => make("img", { src: address, alt: "", draggable: "false" })));
}

/** Show as many thumbnails as there is room for. */
function layStrip() {
  const images = [...$("strip").children];
  const every = Math.max(1, Math.ceil((images.length * 56) / state.width));
  images.forEach((image, k) => (image.hidden = k % every !== Math.floor((every - 1) / 2)));
}

/** Change the zoom, keeping the middle of what is seen, or a time, where it is. */
function zoom(factor, at) {
  const left = plot.scrollLeft;
  const offset = at === undefined ? (plot.clientWidth - labelWidth()) / 2 : at * scale() - left;
  const middle = (left + offset) / scale();
  state.zoom = factor === 0 ? 1 : state.zoom * factor;
  lay();
  plot.scrollLeft = middle * scale() - offset;
}

// Position and selection ----------------------------------------------------------------------------------------------

const position = () => (video && !video.error && video.readyState > 0 ? video.currentTime : state.position);

function seek(seconds) {
  state.position = Math.min(Math.max(seconds, 0), duration);
  if (video) video.currentTime = state.position;
  movePlayhead();
  showNow();
}

function movePlayhead() {
  const x = Math.min(Math.max(position(), 0), duration) * scale();
  playhead.style.transform = `translateX(${x}px)`;
  sayPosition();
}

/** Say where the playing position is: the detection that is selected while it begins there, else the time. */
function sayPosition() {
  const now = position();
  const here = state.selected >= 0 && Math.abs(found.start[state.selected] - now) < 0.05;
  const text = here ? words(state.selected) : time(now, video && !video.paused ? 0 : 1); // each second while it plays
  if (playhead.getAttribute("aria-valuetext") === text) return;
  playhead.setAttribute("aria-valuenow", now.toFixed(2));
  playhead.setAttribute("aria-valuetext", text);
}

/** Keep a moment within what is seen of a timeline that is zoomed in. */
function bringIntoView(seconds) {
  const x = seconds * scale();
  const room = plot.clientWidth - labelWidth();
  if (x < plot.scrollLeft || x > plot.scrollLeft + room - 12) plot.scrollLeft = x - 0.2 * room;
}

/** Name what goes on at the moment of the video. */
function showNow() {
  const now = position();
  const going = [];
  for (let i = 0; i < state.shown && going.length < 4; i++) {
    if (found.start[i] <= now && now < found.end[i]) going.push(i);
  }
  const chips = going.map((i) => {
    const chip = make("span", { class: "chip" }, make("bdi", { class: "name" }, rows[found.row[i]].name), ` ${score2(found.score[i])}`);
    chip.style.setProperty("--class", rows[found.row[i]].colour);
    return chip;
  });
  $("now").replaceChildren(make("span", { class: "clock" }, time(now)), ...chips);
}

function words(i) {
  const parts = [rows[found.row[i]].name, `${time(found.start[i])} to ${time(found.end[i])}`, `score ${score2(found.score[i])}`];
  if (judged) parts.push(verdictOf(i));
  return parts.join(", ");
}

function verdictOf(i) {
  const kind = found.kind[i];
  if (kind === NOT_JUDGED) return "not judged";
  if (kind === HIT) return `hit, tIoU ${score2(found.tiou[i])}`;
  const near = found.tiou[i] > 0 ? `, tIoU ${score2(found.tiou[i])}` : "";
  return `${data.kinds[kind]}${near}`;
}

function drawRing(row) {
  const i = state.selected;
  const width = Math.max((found.end[i] - found.start[i]) * scale(), 2);
  const place = { x: found.start[i] * scale() - 1.5, y: PADDING + row.above + found.lane[i] * row.lane - 0.5, width: width + 3, height: row.lane + 1 };
  for (const [key, value] of Object.entries(place)) row.ring.setAttribute(key, value);
}

function select(i, speak = false) {
  if (state.selected >= 0) rows[found.row[state.selected]].ring.setAttribute("visibility", "hidden");
  state.selected = i;
  sayPosition();
  if (i < 0) return;
  const row = rows[found.row[i]];
  row.ring.setAttribute("visibility", "visible");
  drawRing(row);
  seek(found.start[i]);
  bringIntoView(found.start[i]);
  if (speak) $("live").textContent = words(i);
}

/** Go to the next detection in time, +1, or the one before, −1. */
function step(direction) {
  const now = position();
  const here = state.selected >= 0 && Math.abs(found.start[state.selected] - now) < 0.05 ? byStart.indexOf(state.selected) : -1;
  const order = direction > 0 ? byStart : [...byStart].reverse();
  const rank = here < 0 ? -1 : direction > 0 ? here : total - 1 - here;
  const next = order.find((i, k) => i < state.shown && (here < 0 ? direction * (found.start[i] - now) > 0.01 : k > rank));
  if (next !== undefined) select(next, true);
}

/** Go to the detection of the next class, +1, or the one before, −1, that is nearest in time. */
function climb(direction) {
  const now = position();
  const open = rows.filter((row) => row.shown);
  if (!open.length) return;
  const here = state.selected < 0 ? -1 : open.indexOf(rows[found.row[state.selected]]);
  const row = open[here < 0 ? (direction > 0 ? 0 : open.length - 1) : Math.min(Math.max(here + direction, 0), open.length - 1)];
  const near = (i) => Math.abs(found.start[i] - now);
  const best = row.detections.slice(0, row.shown).reduce((a, b) => (near(b) < near(a) ? b : a));
  select(best, true);
  row.element.scrollIntoView({ block: "nearest" });
}

function play() {
  if (!video) return;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  ArrowUp: () => climb(-1),
  ArrowDown: () => climb(1),
  Home: () => byStart.length && select(byStart.find((i) => i < state.shown) ?? -1, true),
  End: () => byStart.length && select(byStart.findLast((i) => i < state.shown) ?? -1, true),
  " ": play,
  k: play,
  "+": () => zoom(2),
  "=": () => zoom(2),
  "-": () => zoom(0.5),
  Escape: () => select(-1),
};

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (at.closest("input, select, textarea, video")) return;
  if (at.closest("button, a") && [" ", "Enter"].includes(event.key)) return;
  const inPlot = plot.contains(at);
  if (["ArrowUp", "ArrowDown", "Home", "End"].includes(event.key) && !inPlot) return; // they scroll the page
  if (event.shiftKey && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    select(-1);
    seek(position() + (event.key === "ArrowLeft" ? -1 : 1));
    $("live").textContent = time(position());
    event.preventDefault();
    return;
  }
  const act = KEYS[event.key];
  if (!act) return;
  act();
  event.preventDefault();
});

// The pointer ---------------------------------------------------------------------------------------------------------

/** Return the time under the pointer; null beside the timeline. */
function timeAt(event) {
  const box = $("axis").getBoundingClientRect();
  const seconds = (event.clientX - box.left) / scale();
  return seconds >= -0.01 * duration && seconds <= 1.01 * duration ? Math.min(Math.max(seconds, 0), duration) : null;
}

/** Return the bar under the pointer, or the nearest in the row within three pixels, since short ones are hard to hit. */
function barAt(event) {
  if (event.target.detection !== undefined) return event.target.detection;
  const row = event.target.closest?.("svg.lane")?.row;
  if (!row) return -1;
  const box = row.svg.getBoundingClientRect();
  const [x, lane] = [event.clientX - box.left, Math.floor((event.clientY - box.top - PADDING - row.above) / row.lane)];
  let [best, least] = [-1, 3];
  for (const i of row.detections.slice(0, row.shown)) {
    if (found.lane[i] !== lane) continue;
    const away = Math.max(found.start[i] * scale() - x, x - found.end[i] * scale(), 0);
    if (away <= least) [best, least] = [i, away];
  }
  return best;
}

canvas.addEventListener("click", (event) => {
  if (event.target.closest(".label, .corner")) return;
  playhead.focus({ preventScroll: true });
  const i = barAt(event);
  const seconds = event.target.truth !== undefined ? truth[event.target.truth].start : timeAt(event);
  if (i >= 0) select(i, true);
  else if (seconds !== null) {
    select(-1);
    seek(seconds);
  }
});

let dragging = false;
for (const place of [$("axis"), $("strip")]) {
  place.addEventListener("pointerdown", (event) => {
    dragging = true;
    place.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointermove", (event) => {
    const seconds = timeAt(event);
    if (!dragging || seconds === null) return;
    select(-1);
    seek(seconds);
  });
  for (const end of ["pointerup", "pointercancel"]) place.addEventListener(end, () => (dragging = false));
}

canvas.addEventListener("pointermove", (event) => {
  const i = barAt(event);
  const t = event.target.truth;
  if (i < 0 && t === undefined) return hideTip();
  const lines = [];
  if (i >= 0) {
    lines.push(make("bdi", { class: "name" }, rows[found.row[i]].name));
    lines.push(`score ${found.score[i].toFixed(3)}`);
    lines.push(`${time(found.start[i], 2)} – ${time(found.end[i], 2)}, ${time(found.end[i] - found.start[i], 2)} long`);
    if (judged) lines.push(verdictOf(i));
  } else {
    lines.push(make("bdi", { class: "name" }, rows[truth[t].row].name));
    lines.push(isFound(t) ? `true action, found with score ${score2(found.score[finder[t]])}` : "true action, missed");
    lines.push(`${time(truth[t].start, 2)} – ${time(truth[t].end, 2)}`);
  }
  const tip = $("tip");
  tip.replaceChildren(...lines.map((line) => make("div", {}, line)));
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10}px`;
});
const hideTip = () => ($("tip").hidden = true);
canvas.addEventListener("pointerleave", hideTip);
plot.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.25 : 0.8, timeAt(event) ?? undefined);
}, { passive: false });

// The table -----------------------------------------------------------------------------------------------------------

const COLUMNS = [
  { title: "Start", key: "start", kind: "right" },
  { title: "End", key: "end", kind: "right" },
  { title: "Length", key: "length", kind: "right" },
  { title: "Class", key: "name" },
  { title: "Score", key: "score", kind: "right" },
  ...(judged ? [{ title: "Verdict", key: "verdict" }] : []),
];
const listing = { key: "start", direction: 1, most: TABLE_STEP, waiting: 0 };

/** Return the lines of the table: shown detections, and the true actions that none of them found. */
function lines() {
  const all = [];
  for (let i = 0; i < state.shown; i++) {
    const verdict = judged ? verdictOf(i) : "";
    all.push({ i, start: found.start[i], end: found.end[i], score: found.score[i], row: rows[found.row[i]], verdict });
  }
  truth.forEach((one, i) => isFound(i) || all.push({ i: -1, start: one.start, end: one.end, score: null, row: rows[one.row], verdict: "missed" }));
  for (const line of all) Object.assign(line, { length: line.end - line.start, name: line.row.name });
  return all.sort((a, b) => listing.direction * compare(a[listing.key], b[listing.key]) || a.start - b.start);
}

function list() {
  clearTimeout(listing.waiting);
  const all = lines();
  const most = isPrinting() ? paper.rows : listing.most;
  const body = all.slice(0, most).map((line) => {
    const go = make("button", { type: "button", class: "go", "aria-label": `Go to ${time(line.start, 2)}` }, time(line.start, 2));
    go.addEventListener("click", () => (line.i >= 0 ? select(line.i) : (select(-1), seek(line.start))));
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--class", line.row.colour);
    const cells = [
      make("td", { class: "right" }, go),
      make("td", { class: "right" }, time(line.end, 2)),
      make("td", { class: "right" }, time(line.length, 2)),
      make("th", { scope: "row" }, swatch, make("bdi", { class: "name" }, line.name)),
      make("td", { class: "right" }, line.score === null ? "–" : line.score.toFixed(3)),
    ];
    const kind = line.i < 0 ? "missed" : judged ? (found.kind[line.i] === HIT ? "hit" : found.kind[line.i] === NOT_JUDGED ? "" : "wrong") : "";
    if (judged) cells.push(make("td", {}, make("span", { class: `verdict ${kind}` }, line.verdict)));
    return make("tr", {}, ...cells);
  });
  $("body").replaceChildren(...body);
  sayLeft(all.length - most);
  $("more").hidden = all.length <= most;
  $("more").textContent = `Show more (${(all.length - most).toLocaleString("en")} left)`;
}

/** List anew once the slider rests, since a table is slow. */
function listSoon() {
  clearTimeout(listing.waiting);
  listing.waiting = setTimeout(list, 160);
}

$("more").addEventListener("click", () => {
  listing.most += 5 * TABLE_STEP;
  list();
});

// The beginning -------------------------------------------------------------------------------------------------------

function makeLegend() {
  const entry = (kind, text) => make("span", { class: `entry ${kind}` }, make("span", { class: "swatch", "aria-hidden": "true" }), text);
  const shade = make("span", { class: "shades", "aria-hidden": "true" });
  const parts = [make("span", { class: "entry" }, "score 0 ", shade, " 1")];
  if (judged) {
    parts.push(entry("truth-found", "true action, found"), entry("truth-missed", "missed"));
    if (!state.byClass) parts.push(entry("hit", "hit"), entry("wrong", "false"));
  }
  $("legend").replaceChildren(...parts);
}

function colourBy(byClass) {
  state.byClass = byClass;
  document.body.dataset.colour = byClass ? "class" : "verdict";
  $("by-class").setAttribute("aria-pressed", byClass);
  $("by-verdict").setAttribute("aria-pressed", !byClass);
  makeLegend();
  for (const row of rows) if (!row.element.hidden) writeNumbers(row);
}

const onScreen = { zoom: 1, left: 0 };

/** Lay the page out for paper, as a whole and with all that is listed; or again as it was on the screen. */
function layForPaper(begins) {
  if (begins) {
    Object.assign(onScreen, { zoom: state.zoom, left: plot.scrollLeft });
    if (asked !== null) showAbove(asked);
    plot.scrollLeft = 0;
  }
  state.zoom = begins ? 1 : onScreen.zoom;
  lay();
  if (!begins) plot.scrollLeft = onScreen.left;
  list();
}

let asked = null;
function ask(threshold) {
  if (asked === null) requestAnimationFrame(() => (asked === null || showAbove(asked), (asked = null)));
  asked = threshold;
}

function follow() {
  movePlayhead();
  showNow();
  if (video.paused) return;
  bringIntoView(video.currentTime);
  requestAnimationFrame(follow);
}

function begin() {
  $("title").textContent = data.video || "Detections";
  const facts = [time(duration), count(rows.length, "class", "classes"), data.model && `model ${data.model}`];
  if (judged) facts.push(`${count(truth.length, "true action")}, found from tIoU ${data.tiou} on`);
  $("facts").textContent = facts.filter(Boolean).join("  ·  ");
  $("foot").textContent = `afsd ${data.version}`;
  $("up").hidden = !data.index;
  if (data.index) $("up-link").href = data.index;
  $("player").hidden = !video;
  $("stage").classList.toggle("alone", !video);
  $("measures").hidden = $("colouring").hidden = !judged;
  playhead.setAttribute("aria-label", "Position in the video; arrow keys go from detection to detection");
  playhead.setAttribute("aria-valuemin", 0);
  playhead.setAttribute("aria-valuemax", duration);
  makeRows();
  makeStrip();
  drawHistogram();
  makeHeads(COLUMNS, (column, direction) => {
    Object.assign(listing, { key: column.key, direction });
    list();
  })[0].setAttribute("aria-sort", "ascending");
  $("back").textContent = `Back to ${score(data.threshold)}`;
  $("back").addEventListener("click", () => {
    showAbove(data.threshold);
    $("threshold").focus();
  });
  $("threshold").addEventListener("input", () => ask($("threshold").valueAsNumber));
  $("by-class").addEventListener("click", () => colourBy(true));
  $("by-verdict").addEventListener("click", () => colourBy(false));
  $("zoom-in").addEventListener("click", () => zoom(2));
  $("zoom-out").addEventListener("click", () => zoom(0.5));
  $("zoom-fit").addEventListener("click", () => zoom(0));
  for (const bar of bars) bar.classList.add("off");
  colourBy(!judged);
  showAbove(state.threshold);
  lay();
  list();
  switchTheme(() => rows.forEach((row) => row.laid && writeNumbers(row)));
  new ResizeObserver(() => lay()).observe(plot);
  onPrint(layForPaper);
  if (!video) return;
  for (const event of ["timeupdate", "seeked", "loadedmetadata"]) video.addEventListener(event, () => video.paused && follow());
  video.addEventListener("play", follow);
  video.addEventListener("error", () => {
    $("media-fault").hidden = false;
    $("media-fault").textContent = data.media
      ? `The video cannot be played: ${data.media} is not there, or of a kind that this browser does not play. The timeline works without it; ${data.remedy}.`
      : "This browser does not play videos of this kind. The timeline works without it.";
  });
}

begin();
