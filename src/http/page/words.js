// Words, times and addresses for people, in the language of the document.

import { TEXTS } from "./texts.js";

export const texts = () => TEXTS[document.documentElement.lang];
export const say = (key, values = {}) => (texts()[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** The first language that the browser wishes for and that there is. */
export function spoken() {
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((language) => language in TEXTS) ?? "en";
}

export const clock = (time) =>
  new Date(time).toLocaleTimeString(document.documentElement.lang, { hour: "numeric", minute: "2-digit" });

/** Seconds as `0:29`, `59:00` or `1:00:00`. */
export function minutes(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const [hours, rest] = [Math.floor(seconds / 3600), seconds % 3600];
  const short = `${hours ? two(Math.floor(rest / 60)) : Math.floor(rest / 60)}:${two(rest % 60)}`;
  return hours ? `${hours}:${short}` : short;
}

/** A masked address. A number stays on one line. */
export const dotted = (to) => to.replace(/\*+/g, to.includes("@") ? "•••" : "\u00a0•••\u00a0•••\u00a0");

/** Writes only what changed: a live region is read out when it is written to. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
