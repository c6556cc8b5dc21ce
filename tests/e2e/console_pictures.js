// Renews the pictures of the console: AMQP_URL=… REDIS_URL=… OTPOST=target/debug/otpost CLEAN_UP=target/debug/deps/clean_up-… \\
// BROWSER=/usr/bin/chromium node tests/e2e/console_pictures.js. With a directory as argument it draws every view into it instead.

import { fileURLToPath } from "node:url";

import { consoleStage } from "./console_stage.js";
import { browser as launch } from "./stage.js";

const directory = process.argv[2];
const browser = await launch();
const stage = await consoleStage();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.goto(stage.url);
  if (directory) await page.screenshot({ path: `${directory}/door-${options.colorScheme}-${options.viewport.width}.png` });
  await page.fill("#token", await stage.token());
  await page.click("#enter");
  await page.locator(".tiles .value").first().waitFor();
  return page;
}

const LIGHT = { colorScheme: "light", viewport: { width: 1280, height: 900 } };
const DARK = { colorScheme: "dark", viewport: { width: 390, height: 844 } };
const pages = [await open(LIGHT), await open(DARK)];
let from = 1_000_000, broken;
stage.twilio.optedOut = (to) => to.endsWith("7");
// Waves of requests, some of them twice; a provider that grows slow, and then refuses the account.
for (let second = 0; second < 75; second++) {
  const wave = Math.round(4 + 3 * Math.sin(second / 6) + Math.random() * 2);
  if (second === 45) stage.twilio.delay = 350;
  if (second === 66) stage.twilio.refuses = true;
  const [first] = await stage.send(from, wave);
  if (stage.twilio.refuses) broken ??= first;
  if (second % 12 === 11) await stage.send(from, 1).catch(() => {});
  from += wave;
  await pause(800);
}
await pages[0].locator(".workers .badge.wrong").first().waitFor();
for (const [page, name] of [[pages[0], "light"], [pages[1], "dark"]]) {
  const path = directory ? `${directory}/overview-${name}.png` : fileURLToPath(new URL(`../../docs/images/console-${name}.png`, import.meta.url));
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path, fullPage: Boolean(directory) });
}
if (directory) {
  await stage.damage(broken);
  await stage.otpost("suppressions", "add", "+573001112233", "--reason", "asked for it", "--hours", "48");
  await stage.otpost("suppressions", "add", "ana@shop.example");
  stage.twilio.refuses = false;
  await pause(34_000);
  for (const [page, name] of [[pages[0], "light"], [pages[1], "dark"]]) {
    await page.click('#nav [href="#overview"]');
    await pause(500);
    await page.screenshot({ path: `${directory}/after-${name}.png`, fullPage: true });
    await page.click('#nav [href="#stop"]');
    await pause(300);
    await page.screenshot({ path: `${directory}/stop-${name}.png`, fullPage: true });
    for (const view of ["conversion", "spend", "defence", "audit"]) {
      await page.click(`#nav [href="#${view}"]`);
      await page.locator("[aria-busy]").first().waitFor({ state: "detached" });
      await page.screenshot({ path: `${directory}/${view}-${name}.png`, fullPage: true });
    }
    await page.click('#nav [href="#people"]');
    await page.fill("#to", "+573001000003");
    await page.click("text=Look up");
    await page.locator(".recent .id").first().click();
    await page.locator(".timeline").waitFor();
    await page.screenshot({ path: `${directory}/people-${name}.png`, fullPage: true });
    await page.click('#nav [href="#dead-letters"]');
    await page.locator(".letters input").first().check();
    await page.click("summary");
    await page.click("text=Check a replay of 1");
    await page.locator(".plan").waitFor();
    await page.screenshot({ path: `${directory}/dead-letters-${name}.png`, fullPage: true });
    await page.check("#force");
    await page.click("text=Replay 1");
    await pause(300);
    await page.screenshot({ path: `${directory}/dialog-${name}.png` });
    await page.keyboard.press("Escape");
  }
}
await browser.close();
await stage.stop();
