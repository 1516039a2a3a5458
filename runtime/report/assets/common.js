"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** Make an element with attributes and children; texts are always text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make an SVG element. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Format seconds: 7.25 s, 1:07.3, 1:02:07. */
function time(seconds, digits = 1) {
  const sign = seconds < 0 ? "−" : "";
  const rounded = Number(Math.abs(seconds).toFixed(digits));
  if (rounded < 60) return `${sign}${rounded.toFixed(digits)} s`;
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor((rounded % 3600) / 60);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return sign + (hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`);
}

/** Format a time on an axis with ticks `step` apart. */
function tick(seconds, step) {
  if (step < 1) return `${seconds.toFixed(1)} s`;
  return seconds < 60 && step < 30 ? `${Math.round(seconds)} s` : time(seconds, 0);
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

/** Return the distance of ticks that are at least `apart` pixels from one another. */
function tickStep(pixelsPerSecond, apart) {
  return STEPS.find((step) => step * pixelsPerSecond >= apart) ?? STEPS.at(-1);
}

const count = (number, noun, plural = `${noun}s`) => `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
const percent = (share, digits = 0) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);

/** Format a score or threshold: two decimals, all there are if it has more. */
const score = (value) => (Math.abs(value * 100 - Math.round(value * 100)) < 1e-9 ? value.toFixed(2) : String(value));

/** Return [red, green, blue] of "#rrggbb". */
const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** Return the value of a colour of the style sheet, as the theme has it. */
const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Return "#fff" or "#1c2028", whichever is better read on a colour that lies over the page at an opacity. */
function readable(colour, opacity) {
  const page = channels(themed("--page"));
  const linear = channels(colour).map((value, k) => ((opacity * value + (1 - opacity) * page[k]) / 255) ** 2.2);
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.063 ? "#ffffff" : "#1c2028";
}

/** Let a button go through the themes; the choice is kept for pages of the same place where the browser allows it. */
function switchTheme(onChange) {
  const names = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const order = Object.keys(names);
  let theme = "auto";
  try {
    theme = localStorage.getItem("afsd-theme") ?? "auto";
  } catch {
    // a browser may keep nothing for files
  }
  function apply() {
    if (!(theme in names)) theme = "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = names[theme];
    onChange();
  }
  $("theme").addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem("afsd-theme", theme);
    } catch {
      // see above
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  apply();
}

const paper = { rows: 10000 }; // most lines of a table, some four hundred pages
const isPrinting = () => document.documentElement.hasAttribute("data-print");

/** Have a function called before the page is printed, with true, when its colours are those of paper, and after. */
function onPrint(change) {
  for (const begins of [true, false]) {
    addEventListener(begins ? "beforeprint" : "afterprint", () => {
      document.documentElement.toggleAttribute("data-print", begins);
      change(begins);
    });
  }
}

/** Say on paper how many lines of a table are not on it. */
function sayLeft(number) {
  $("left").hidden = !isPrinting() || number <= 0;
  $("left").textContent = `${number.toLocaleString("en")} more are not printed.`;
}

/** Fill the head of a table with buttons that sort it, by the first column whose `sorted` is given at first. */
function makeHeads(columns, sort) {
  const heads = columns.map((column) => {
    const button = make("button", { type: "button" }, column.title);
    const head = make("th", { scope: "col", class: column.kind ?? "" }, column.sort === false ? column.title : button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down ? -1 : 1);
    });
    return head;
  });
  $("heads").replaceChildren(...heads);
  return heads;
}

/** Compare values for a table: numbers by size, texts as people sort them, nothing last. */
function compare(a, b) {
  if (a === null || a === undefined || b === null || b === undefined) {
    return (a === null || a === undefined) - (b === null || b === undefined);
  }
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}
