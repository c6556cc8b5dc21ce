// Renews the pictures of the README: OTPOST=target/debug/otpost BROWSER=/usr/bin/chromium node tests/e2e/pictures.js

import { fileURLToPath } from "node:url";

import { browser as launch, gateway } from "./stage.js";

const browser = await launch();
for (const [colorScheme, width, height, language] of [["light", 1280, 880, "en"], ["dark", 390, 844, "es"]]) {
  const otpost = await gateway();
  const page = await browser.newPage({ colorScheme, viewport: { width, height }, locale: language });
  await page.goto(otpost.url);
  await page.click("#go");
  await page.locator("#sms-list button").waitFor();
  await page.locator("#code:focus").waitFor();
  await page.keyboard.type((await page.textContent("#sms-list button")).slice(0, 3));
  await page.locator("#news:not(:empty)").waitFor();
  await page.screenshot({ path: fileURLToPath(new URL(`../../docs/images/page-${colorScheme}.png`, import.meta.url)) });
  await page.close();
  await otpost.stop();
}
await browser.close();
