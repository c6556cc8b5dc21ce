// Texts, times and addresses in the language of the document.

import { TEXTS } from "./texts.js";

export const texts = () => TEXTS[document.documentElement.lang];
export const say = (key, values = {}) => (texts()[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** The first preferred language of the browser that has texts. */
export function preferredLanguage() {
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

/** A masked address. Non-breaking spaces keep a number on one line. */
export const dotted = (to) => to.replace(/\*+/g, to.includes("@") ? "•••" : "\u00a0•••\u00a0•••\u00a0");

/** An error on a channel at a step, with the attempts that are left. */
export function errorText({ code, attempts }, { channel, step, length }) {
  const { errors } = texts();
  const special = errors[`${code}:${channel}`] ?? errors[`${code}:${step}`];
  const message = (special ?? errors[code] ?? errors.unknown).replace("{code}", code).replace("{n}", length);
  if (attempts === undefined) return message;
  return `${message} ${say(attempts === 1 ? "attempt" : "attempts", { n: attempts })}`;
}

export const inAscii = (text) => text.normalize("NFKC");
export const digitsOf = (text) => inAscii(text).replace(/\D/g, "");

/**
 * The code in a message: its number of the right length. Without one, all digits count if they are not too many, because
 * a part of a longer number would cost an attempt.
 */
export function digitsIn(text, length) {
  const code = inAscii(text).match(new RegExp(`(?<!\\d)\\d{${length}}(?!\\d)`))?.[0];
  const digits = code ?? digitsOf(text);
  return digits.length > length ? "" : digits;
}

/** Writes only changes: screen readers announce every write to a live region. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
