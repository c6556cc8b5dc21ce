// The steps of a person on the page.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { browser as launch, gateway } from "./stage.js";

const WITHIN_MS = 10_000;

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Starts a gateway and opens its page. A browser error fails the test. */
export async function open(t, { settings, language = "es-CO", ...options } = {}) {
  const otpost = await gateway(settings);
  const context = await browser.newContext({ locale: language, viewport: { width: 1280, height: 860 }, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  page.setDefaultTimeout(WITHIN_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (line) => /Content Security Policy/.test(line.text()) && complaints.push(line.text()));
  t.after(async () => {
    await context.close();
    await otpost.stop();
    assert.deepEqual(complaints, []);
  });
  await page.goto(otpost.url);
  return page;
}

/** Waits until another click is no part of a double click, which the page takes for one. */
export const afterDoubleClick = (page) => page.waitForTimeout(600);

/** Waits until the phone shows `count` messages. */
export const messages = (page, count) =>
  page.waitForFunction((count) => document.querySelectorAll("#sms-list article").length === count, count);
/** Waits until an element has the focus. */
export const focused = (page, selector) => page.locator(`${selector}:focus`).waitFor({ state: "attached" });

/** Records the requests to a path from now on. */
export function requests(page, path) {
  const made = [];
  page.on("request", (request) => request.url().endsWith(path) && made.push(request));
  return made;
}

/** Forwards the next request to a path and drops its answer. */
export const loseAnswer = (page, path) => page.route(`**/${path}`, async (route) => {
  await route.fetch();
  await route.abort();
}, { times: 1 });

export const step = (page, name) => page.waitForSelector(`[data-step=${name}]`);
export const expectText = (page, id, text) => page.locator(id).filter({ hasText: text }).waitFor();

export async function send(page) {
  await page.click("#go");
  await step(page, "code");
}

/** The code of the last message on the phone. */
export async function read(page, channel = "sms") {
  const last = page.locator(`#${channel}-list article`).last();
  await last.waitFor();
  return last.locator("button").textContent();
}

/** All pages of a browser share one clipboard: its users take turns. */
let clipboard = Promise.resolve();
export function withClipboard(work) {
  const worked = clipboard.then(work);
  clipboard = worked.catch(() => {});
  return worked;
}

export const paste = (page, text) => withClipboard(async () => {
  await page.evaluate((text) => navigator.clipboard.writeText(text), text);
  await page.focus("#code");
  await page.keyboard.press("Control+V");
});

/** Another code than this one. */
export const wrong = (code) => String((Number(code) + 1) % 10 ** code.length).padStart(code.length, "0");

export async function type(page, code) {
  await page.focus("#code");
  await page.keyboard.type(code);
}

export async function choose(page, number) {
  await page.fill("#phone", number);
  await page.locator("#phone").blur();
}
