// The words, the layout and the keyboard order of each state of the page.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import {
  afterDoubleClick, choose, expectText, focused, messages, open, paste, read, requests, send, step, type, withClipboard, wrong,
} from "./steps.js";

const AT_ONCE = { OTP_RESEND_COOLDOWN_SECONDS: "0" };
const VERIFY = "verify-phone-otp";

describe("the words and the layout of each state", { concurrency: 4 }, () => {
  for (const [reason, settings, title] of [
    ["a locked code", { OTP_MAX_ATTEMPTS: "1" }, "El código está bloqueado"],
    ["the limit of an hour", { OTP_WRONG_PER_HOUR: "1" }, "Por ahora no se puede comprobar"],
  ]) {
    test(`${reason} has a title of its own, also after a reload`, async (t) => {
      const page = await open(t, { settings });
      await send(page);
      const code = await read(page);
      await type(page, wrong(code));
      await expectText(page, "#problem", /./);
      if (!settings.OTP_MAX_ATTEMPTS) await type(page, wrong(code));
      for (const again of [false, true]) {
        if (again) await page.reload();
        await expectText(page, "#title", title);
      }
      assert.equal(await page.textContent("#title"), title);
    });
  }

  for (const [answer, title] of [
    [{ status: 410, json: { code: "code_expired" } }, "Hace falta otro código"],
    [{ status: 409, json: { code: "code_used" } }, "Hace falta otro código"],
    [{ status: 422, json: { code: "wrong_code", attempts_remaining: 4 } }, "Escribe el código"],
  ]) {
    test(`after ${answer.json.code} the title is right, and a closed field asks for no digits`, async (t) => {
      const page = await open(t);
      await page.route(`**/${VERIFY}`, (route) => route.fulfill(answer));
      await send(page);
      await type(page, await read(page));
      await expectText(page, "#problem", /./);
      assert.equal(await page.textContent("#title"), title);
      assert.equal(/dígitos/.test(await page.textContent("#hint")), title === "Escribe el código");
    });
  }

  test("Enter with too few digits says how many are needed, and costs no attempt", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    const checks = requests(page, VERIFY);
    for (const typed of ["", code.slice(0, 1), code.slice(1, 5)]) {
      await type(page, typed);
      assert.equal(await page.textContent("#problem"), "");
      await page.keyboard.press("Enter");
      await expectText(page, "#problem", "Escribe los 6 dígitos");
      assert.equal(await page.getAttribute("#code", "aria-invalid"), "true");
      await focused(page, "#code");
    }
    assert.equal(checks.length, 0);
    await page.fill("#code", code.slice(0, 2));
    assert.equal(await page.textContent("#problem"), "", "typing ends it");
    await page.click("#go", { force: true });
    await expectText(page, "#problem", "Escribe los 6 dígitos");
    await page.fill("#code", "");
    await type(page, code);
    await step(page, "done");
  });

  test("news of a copy leave with the answer to a check, with typing and after some seconds", async (t) => {
    const page = await open(t);
    await send(page);
    await expectText(page, "#news", "Entregado");
    const copyNews = page.locator("#news").filter({ hasText: /copi|puesto/ });
    const wrongCode = { status: 422, json: { code: "wrong_code", attempts_remaining: 4 } };
    let answer;
    await page.route(`**/${VERIFY}`, async (route) => {
      await new Promise((now) => (answer = now));
      await route.fulfill(wrongCode);
    }, { times: 1 });
    await withClipboard(async () => {
      await page.click("#sms-list button");
      await expectText(page, "#news", "Código puesto y copiado");
      answer();
      await expectText(page, "#problem", "4 intentos");
      assert.equal(await copyNews.count(), 0, "after the answer");
    });
    await type(page, "1");
    assert.equal(await copyNews.count(), 0, "once the answer is gone");
    await paste(page, "hola");
    await expectText(page, "#news", "no hay un código");
    await type(page, "2");
    assert.ok(!/no hay/.test(await page.textContent("#news")), "after typing");
    await page.fill("#code", "");
    await withClipboard(async () => {
      await page.click("#sms-list button");
      await step(page, "done");
      assert.equal(await copyNews.count(), 0, "verified");
      await page.click("#sms-list button");
      await expectText(page, "#news", "Código copiado");
      await page.waitForFunction(() => document.getElementById("news").textContent === "");
    });
  });

  test("an address has one masked form in every step", async (t) => {
    const page = await open(t, { settings: { SMS_ALLOWED_COUNTRIES: "*" } });
    for (const [channel, typed, masked] of [
      ["sms", "300 123 4567", "+57 ••• ••• 4567"],
      ["sms", "+34600000001", "+34 ••• ••• 0001"],
      ["email", "ana@mail.shop.example", "a•••@m•••.example"],
    ]) {
      await page.fill(channel === "sms" ? "#phone" : "#email", typed);
      await page.locator(channel === "sms" ? "#phone" : "#email").blur();
      await expectText(page, `#${channel}-to`, masked);
      await send(page);
      await expectText(page, "#lead", masked);
      await expectText(page, `#${channel}-list article:last-child small`, masked);
      await type(page, await read(page, channel));
      await step(page, "done");
      await expectText(page, "#lead", masked);
      await page.click("#go");
      await step(page, "ask");
    }
    await choose(page, "123");
    await expectText(page, "#sms-to", /^123$/);
  });

  test("the newest code follows the buttons in the keyboard's order, and the arrow keys reach older ones", async (t) => {
    const page = await open(t, { settings: AT_ONCE });
    await send(page);
    for (const count of [1, 2, 3]) {
      if (count > 1) await afterDoubleClick(page);
      if (count > 1) await page.locator("#resend[aria-disabled=false]").click();
      await messages(page, count);
    }
    await focused(page, "#code");
    const codes = page.locator("#sms-list button");
    const focusedCode = () => codes.evaluateAll((all) => all.indexOf(document.activeElement));
    const passed = [];
    for (let n = 0; n < 8 && (await focusedCode()) < 0; n++) {
      await page.keyboard.press("Tab");
      passed.push(await page.evaluate(() => document.activeElement.id));
    }
    assert.equal(await focusedCode(), 2, passed.join(" "));
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    assert.equal(await focusedCode(), 0);
    await page.keyboard.press("ArrowDown");
    assert.equal(await focusedCode(), 1);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.closest(".messages")), null);
  });

  for (const [width, height] of [[1280, 860], [390, 844]]) {
    test(`${width}x${height}: no state has an empty band`, async (t) => {
      const page = await open(t, { viewport: { width, height }, settings: { OTP_MAX_ATTEMPTS: "2" } });
      /** The widest empty stretch between two visible parts of the card, or below the last one, in pixels. */
      const widestBand = () => page.evaluate(() => {
        const card = document.getElementById("card");
        const parts = "#seal, #title, #lead, legend, .way, [for=code], #drawn, #problem, #hint, #news, #go, #resend, #back";
        const boxes = [...card.querySelectorAll(parts)]
          .map((part) => [part.textContent, part.id, part.getBoundingClientRect()])
          .filter(([text, id, { width, height }]) => (text || ["seal", "drawn"].includes(id)) && width && height)
          .map(([, , box]) => box).sort((a, b) => a.top - b.top);
        let [end, widest] = [card.getBoundingClientRect().top, 0];
        for (const { top, bottom } of boxes) [end, widest] = [Math.max(end, bottom), Math.max(widest, top - end)];
        return Math.max(widest, card.getBoundingClientRect().bottom - end);
      });
      const expectNoBand = async (state) => {
        const band = await widestBand();
        assert.ok(band <= 48, `${state}: ${band} px`);
      };
      await expectNoBand("asking");
      await choose(page, "123");
      await page.click("#go");
      await expectText(page, "#problem", /./);
      await expectNoBand("refused");
      await choose(page, "+573001234567");
      await send(page);
      const code = await read(page);
      await expectNoBand("code");
      await expectText(page, "#news", "Entregado");
      await expectNoBand("delivered");
      await type(page, wrong(code));
      await expectText(page, "#problem", "1 intento");
      await expectNoBand("wrong");
      await type(page, wrong(code));
      await expectText(page, "#title", "bloqueado");
      await expectNoBand("locked");
      await page.click("#back");
      await page.locator("[value=email]").check();
      await send(page);
      await type(page, await read(page, "email"));
      await step(page, "done");
      await expectNoBand("done");
    });
  }
});
