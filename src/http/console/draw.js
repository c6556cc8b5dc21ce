// Draws elements, numbers, times, tables and lines.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** An element. `props` are attributes, listeners as functions, and `class`; null and false are left out. */
export function h(name, props, ...children) {
  return fill(document.createElement(name), props, children);
}

export function s(name, props, ...children) {
  return fill(document.createElementNS(SVG, name), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Draws into an element, but only if its data have changed: focus and selection stay. */
export function update(element, data, draw) {
  const key = JSON.stringify(data);
  if (element.drawn === key) return;
  element.drawn = key;
  element.replaceChildren(...[draw(data)].flat().filter(Boolean));
}

// --- words ---

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const count = (value) => number.format(value);
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
export const words = (word) => word.replaceAll("_", " ");
export const channelName = (channel) => ({ sms: "SMS", email: "E-mail" })[channel] ?? channel;

export function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export function millis(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 10_000 ? `${number.format(ms / 1_000)} s` : duration(ms / 1_000);
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const clockTime = (at) => clock.format(new Date(at));

/** A time of the API, in the reader's zone; the exact one is its title. */
export const time = (text) => h("time", { datetime: text, title: text }, timeText(text));

function timeText(text) {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  return (isToday ? clock : day).format(at);
}

// --- parts ---

export const badge = (text, kind) => h("span", { class: `badge ${kind ?? ""}` }, text);

export const empty = (text) => h("p", { class: "empty" }, text);

export const loading = () => h("p", { class: "empty", "aria-busy": "true" }, "Reading…");

export const problem = (text) => h("p", { class: "problem", role: "alert" }, text);

export function card(title, ...children) {
  const id = `card-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** On a narrow screen a row is a block, so each cell names its column. Roles keep the table one then. */
export function table(caption, columns, rows) {
  const head = columns.map((column) => h("th", { role: "columnheader", scope: "col" }, column));
  const cells = (row) => row.map((cell, at) => h("td", { role: "cell", "data-label": columns[at] }, cell));
  return h("div", { class: "scroll" }, h("table", { role: "table" },
    h("caption", null, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, cells(row))))));
}

/** A part of a whole as a bar: `share` is from 0 to 1. */
export function bar(share, kind) {
  return s("svg", { class: `bar ${kind ?? ""}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "track", width: 100, height: 6 }), s("rect", { class: "part", width: Math.max(0.6, Math.min(1, share) * 100), height: 6 }));
}

/** Buttons of which one is pressed. `options` are pairs of a value and its text. */
export function segments(label, options, value, choose) {
  const group = h("div", { class: "segments", role: "group", "aria-label": label });
  const draw = () => group.replaceChildren(...options.map(([option, text]) => h("button", {
    type: "button", "aria-pressed": String(option === value),
    click: () => {
      if (option === value) return;
      value = option;
      draw();
      group.querySelector('[aria-pressed="true"]').focus();
      choose(option);
    },
  }, text)));
  draw();
  return group;
}

// --- lines ---

const WIDTH = 240, HEIGHT = 56, SPAN_MIN_MS = 60_000;

/** The last minutes as a line. `label` names it; `format` writes a value. */
export function sparkline(points, label, format) {
  const known = points.filter((point) => point.value !== null);
  if (known.length === 0) return h("p", { class: "no-line" }, "nothing yet");
  const end = points.at(-1).at;
  const span = Math.max(SPAN_MIN_MS, end - points[0].at);
  const highest = Math.max(...known.map((point) => point.value));
  const x = (at) => WIDTH - 3 - ((end - at) / span) * (WIDTH - 6);
  const y = (value) => HEIGHT - 4 - (highest ? (value / highest) * (HEIGHT - 10) : 0);
  const parts = [];
  for (const point of points) {
    if (point.value === null) parts.push([]);
    else (parts.at(-1) ?? parts[parts.push([]) - 1]).push(`${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`);
  }
  const drawn = parts.filter((part) => part.length > 0);
  const lines = drawn.map((part) => s("path", { class: "stroke", d: `M${part.join("L")}` }));
  const areas = drawn.map((part) => {
    const [first, last] = [part[0], part.at(-1)].map((place) => place.split(",")[0]);
    return s("path", { class: "area", d: `M${first},${HEIGHT}L${part.join("L")}L${last},${HEIGHT}Z` });
  });
  const last = known.at(-1);
  const summary = `${label} in the last ${duration(Math.max(1, (end - points[0].at) / 1_000))}: ` +
    `now ${format(last.value)}, highest ${format(highest)}`;
  return s("svg", { class: "line", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": summary },
    areas, lines, s("path", { class: "end", d: `M${x(last.at).toFixed(1)},${y(last.value).toFixed(1)}h0` }));
}

// --- news and confirmations ---

let newsTimer = 0;

/** Shows a short text, and tells it to screen readers. */
export function announce(text) {
  clearTimeout(newsTimer);
  $("news").textContent = text;
  newsTimer = setTimeout(() => ($("news").textContent = ""), 6_000);
}

/** Asks before an act. True if the operator confirms it. */
export function confirmed({ title, text, button, danger = false }) {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-ok").textContent = button;
  $("dialog-ok").classList.toggle("danger", danger);
  dialog.returnValue = "cancel";
  dialog.showModal();
  $("dialog-cancel").focus();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok"), { once: true });
  });
}

export function closeDialog() {
  if ($("dialog").open) $("dialog").close("cancel");
}

/** Runs one act at a time: its buttons are disabled meanwhile, and its error is shown in `place`. */
export async function act(buttons, place, work) {
  const all = [buttons].flat();
  if (all.some((button) => button.getAttribute("aria-disabled") === "true")) return;
  all.forEach((button) => button.setAttribute("aria-disabled", "true"));
  place.replaceChildren();
  try {
    await work();
  } catch (error) {
    if (!("code" in error)) throw error;
    if (error.code !== "left") place.replaceChildren(problem(sentence(error.message)));
  } finally {
    all.forEach((button) => button.removeAttribute("aria-disabled"));
  }
}

const ISO_TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** A text of the API as a sentence: with the reader's times, and quotation marks around its words. */
export function sentence(text) {
  const shown = text.replace(ISO_TIME, timeText).replace(/`([^`]+)`/g, "“$1”");
  const first = shown.charAt(0).toUpperCase() + shown.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}
