const figures = data.figures;
const TABLE_STEP = 200;
const CURVES = 24;

const f1 = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
const points = (share) => (100 * share).toFixed(2);
const swatch = (colour) => {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  if (colour) element.style.setProperty("--class", colour);
  return element;
};

/** Return a bar that shows a share of 0 … 1. */
function meter(share, colour) {
  const bar = make("i");
  bar.style.width = `${100 * Math.min(Math.max(share ?? 0, 0), 1)}%`;
  if (colour) bar.style.setProperty("--class", colour);
  return make("span", { class: "meter", "aria-hidden": "true" }, bar);
}

function section(title, text, ...content) {
  return make("section", { class: "figure" }, make("h2", {}, title), make("p", { class: "muted small" }, text), ...content);
}

/** Make a table of texts and elements; columns but the first are numbers. */
function plainTable(heads, lines) {
  const side = (k) => (k ? "right" : "");
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      { class: "plain" },
      make("thead", {}, make("tr", {}, ...heads.map((head, k) => make("th", { scope: "col", class: side(k) }, head)))),
      make(
        "tbody",
        {},
        ...lines.map((cells) =>
          make("tr", {}, ...cells.map((cell, k) => (k ? make("td", { class: "right" }, ...[cell].flat()) : make("th", { scope: "row" }, ...[cell].flat())))),
        ),
      ),
    ),
  );
}

function tiles() {
  const tile = (title, value, main) => make("div", { class: main ? "tile main" : "tile" }, make("dt", {}, title), make("dd", {}, value));
  const at = figures.tious.map((tiou, k) => tile(`mAP at ${tiou}`, points(figures.map[k])));
  return make("dl", { class: "tiles" }, tile("Average mAP, %", points(figures.average), true), ...at);
}

function classTable() {
  const mean = (row) => row.ap.reduce((sum, value) => sum + value, 0) / row.ap.length;
  const sorted = [...figures.classes].sort((a, b) => mean(a) - mean(b));
  const heads = ["Class", ...figures.tious.map((tiou) => tiou.toFixed(2)), "Average", "Truths", "Detections"];
  const lines = sorted.map((row) => [
    [swatch(row.colour), make("bdi", { class: "name", title: row.name.slice(0, 300) }, row.name)],
    ...row.ap.map(points),
    [meter(mean(row), row.colour), points(mean(row))],
    row.truths.toLocaleString("en"),
    row.detections.toLocaleString("en"),
  ]);
  return section("Average precision by class", `% at each tIoU, the weakest class first; ${figures.rule === "thumos14" ? "THUMOS'14" : "ActivityNet"} rule.`, plainTable(heads, lines));
}

/** Draw precision over recall of a class, with a circle where the threshold of the report is. */
function curve(row) {
  const [width, height, left, bottom] = [150, 110, 18, 14];
  const x = (recall) => left + recall * (width - left - 2);
  const y = (precision) => 2 + (1 - precision) * (height - bottom - 2);
  const steps = row.curve.map(([recall, precision]) => `${x(recall).toFixed(1)} ${y(precision).toFixed(1)}`);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Precision ${percent(row.precision)} at recall ${percent(row.recall)}, score ${score(data.threshold)} or more` });
  svg.style.setProperty("--class", row.colour);
  svg.append(draw("rect", { class: "frame", x: x(0), y: y(1), width: x(1) - x(0), height: y(0) - y(1) }));
  if (steps.length) {
    const last = row.curve.at(-1);
    svg.append(draw("path", { class: "area", d: `M${x(0)} ${y(0)} L${x(0)} ${steps[0].split(" ")[1]} L${steps.join(" L")} L${x(last[0])} ${y(0)} Z` }));
    svg.append(draw("path", { class: "line", d: `M${steps.join(" L")}` }));
    svg.append(draw("circle", { class: "point", cx: x(row.recall), cy: y(row.precision), r: 3.5 }));
  }
  const text = (content, at) => draw("text", at, content);
  svg.append(
    text("1", { x: left - 4, y: y(1) + 7, "text-anchor": "end" }),
    text("0", { x: left - 4, y: y(0), "text-anchor": "end" }),
    text("recall", { x: (x(0) + x(1)) / 2, y: height - 2, "text-anchor": "middle" }),
    text("1", { x: x(1), y: height - 2, "text-anchor": "end" }),
  );
  const name = make("bdi", { class: "name", title: row.name.slice(0, 300) }, row.name);
  const numbers = make("p", { class: "muted" }, `${row.precision.toFixed(2)} at ${row.recall.toFixed(2)}`);
  return make("div", { class: "curve" }, make("h3", {}, name), numbers, svg);
}

function curves() {
  const grid = make("div", { class: "curves" });
  const sorted = [...figures.classes].sort((a, b) => a.ap[0] - b.ap[0]);
  const part = make("section", { class: "figure" }, make("h2", {}, "Precision over recall"), make("p", { class: "muted small" }, `At tIoU ${data.tiou}; the circle, and the precision at a recall in numbers, at a score of ${score(data.threshold)} or more.`), grid);
  grid.append(...sorted.slice(0, CURVES).map(curve));
  if (sorted.length > CURVES) {
    const more = make("button", { type: "button", class: "switch" }, `Show the other ${sorted.length - CURVES}`);
    more.addEventListener("click", () => (grid.append(...others()), more.remove()));
    part.append(make("p", { class: "plain" }, more));
    const others = () => sorted.slice(CURVES).map(curve);
    let printed = [];
    onPrint((begins) => {
      printed.forEach((one) => one.remove());
      printed = begins && more.isConnected ? others() : [];
      grid.append(...printed);
    });
  }
  return part;
}

function errors() {
  const { kinds, counts, gains, shares } = figures.errors;
  const [width, height, bottom, pitch] = [560, 190, 18, 56];
  const svg = draw("svg", { class: "columns", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Shares of the kinds of detections by rank; the table has the numbers" });
  shares.slice(0, shares.findLastIndex((column) => column !== null) + 1).forEach((column, m) => {
    svg.append(draw("text", { x: m * pitch + (pitch - 6) / 2, y: height - 4, "text-anchor": "middle" }, `${m + 1}G`));
    let top = height - bottom;
    column?.forEach((share, kind) => {
      const tall = share * (height - bottom);
      top -= tall;
      if (tall > 0) svg.append(draw("rect", { class: `kind-${kind}`, x: m * pitch, y: top, width: pitch - 6, height: tall }));
    });
  });
  const entry = (kind) => [make("span", { class: `swatch kind-${kind}`, "aria-hidden": "true" }), kinds[kind]];
  const table = plainTable(["Kind", "Number", "mAP gained without"], kinds.map((_, kind) => [entry(kind), counts[kind].toLocaleString("en"), kind ? `+${points(gains[kind])}` : ""]));
  return section("Kinds of errors", `Of each class's best 10·G detections (G: its true actions), by rank, at tIoU ${data.tiou}.`, svg, table);
}

function durations() {
  const lines = figures.durations.map((bin) => [bin.name, bin.map === null ? "–" : [meter(bin.map), points(bin.map)], bin.truths.toLocaleString("en")]);
  return section("By length of the true action", "mAP, average over the tIoUs, %.", plainTable(["Length", "mAP", "True actions"], lines));
}

function mini(video) {
  const svg = draw("svg", { class: "mini", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [start, end, kind] of video.strip) {
    const place = kind === "missed" ? { y: 0, height: 0.4 } : { y: data.judged ? 0.45 : 0.15, height: data.judged ? 0.5 : 0.7 };
    svg.append(draw("rect", { class: kind, x: start, width: Math.max(end - start, 0.004), ...place }));
  }
  return svg;
}

const COLUMNS = [
  { title: "Video", key: "video" },
  { title: "", sort: false, kind: "strip-cell" },
  { title: "Length", key: "duration", kind: "right" },
  { title: "Shown", key: "shown", kind: "right" },
  ...(data.judged
    ? [
        { title: "True", key: "truths", kind: "right" },
        { title: "Hits", key: "hits", kind: "right" },
        { title: "False", key: "wrong", kind: "right" },
        { title: "Missed", key: "missed", kind: "right" },
        { title: "Precision", key: "precision", kind: "right" },
        { title: "Recall", key: "recall", kind: "right" },
        { title: "F1", key: "f1", kind: "right" },
      ]
    : []),
];
const listing = { videos: [...data.videos], most: TABLE_STEP };

function list() {
  const number = (value) => (value === undefined ? "–" : value.toLocaleString("en"));
  const most = isPrinting() ? paper.rows : listing.most;
  const body = listing.videos.slice(0, most).map((video) => {
    const cell = (content) => make("td", { class: "right" }, content);
    const link = make("a", { href: video.page, title: video.video.slice(0, 300) }, make("bdi", {}, video.video || "video"));
    const cells = [make("th", { scope: "row" }, link), make("td", { class: "strip-cell" }, mini(video)), cell(time(video.duration, 1)), cell(number(video.shown))];
    if (data.judged) {
      for (const key of ["truths", "hits", "wrong", "missed"]) cells.push(cell(number(video[key])));
      for (const key of ["precision", "recall", "f1"]) cells.push(cell(f1(video[key])));
    }
    return make("tr", {}, ...cells);
  });
  $("body").replaceChildren(...body);
  const left = listing.videos.length - most;
  sayLeft(left);
  $("more").hidden = left <= 0;
  $("more").textContent = `Show more (${left.toLocaleString("en")} left)`;
}

function begin() {
  document.body.classList.add("index");
  $("title").textContent = data.title;
  const shown = data.videos.reduce((sum, video) => sum + video.shown, 0);
  const length = data.videos.reduce((sum, video) => sum + video.duration, 0);
  const facts = [count(data.videos.length, "video"), time(length, 0), `${count(shown, "detection")} of score ${score(data.threshold)} or more`, data.model && `model ${data.model}`];
  $("facts").textContent = facts.filter(Boolean).join("  ·  ");
  $("foot").textContent = `afsd ${data.version}`;
  const entry = (kind, text) => make("span", { class: `entry ${kind}` }, swatch(""), text);
  if (data.judged) $("legend").replaceChildren(make("span", {}, `worst first, by F1 at tIoU ${data.tiou}`), entry("hit", "hit"), entry("wrong", "false"), entry("missed", "missed"));
  if (figures) $("figures").append(tiles(), make("div", { class: "beside" }, make("div", {}, classTable(), curves()), make("div", {}, errors(), durations())));
  makeHeads(COLUMNS, (column, direction) => {
    listing.videos.sort((a, b) => direction * compare(a[column.key], b[column.key]) || compare(a.video, b.video));
    list();
  });
  $("more").addEventListener("click", () => {
    listing.most += 5 * TABLE_STEP;
    list();
  });
  list();
  switchTheme(() => {});
  onPrint(list);
}

begin();
