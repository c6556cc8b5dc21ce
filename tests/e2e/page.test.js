// The page as people use it, in a real browser against the real `otpost dev`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, test } from "node:test";

import { choose, expectText, loseAnswer, messages, open, paste, read, send, step, type, withClipboard, wrong } from "./steps.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

describe("the page", { concurrency: 4 }, () => {
  test("a code that arrives is pasted and verified", async (t) => {
    const page = await open(t);
    await send(page);
    await expectText(page, "#lead", "+57 ••• ••• 4567");
    await paste(page, await read(page));
    await step(page, "done");
    await expectText(page, "#title", "Verificado");
    assert.equal(await page.evaluate(() => document.activeElement.id), "title");
  });

  test("a whole message is pasted", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    await paste(page, `MeStore 2026: tu código es ${code}. Válido por 10 minutos.`);
    await step(page, "done");
  });

  test("a click on a code on the phone fills it in", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    await withClipboard(async () => {
      await page.click("#sms-list button");
      await step(page, "done");
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), code);
    });
  });

  test("the boxes ignore letters, follow the arrow keys and backspace, and replace a digit in place", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    const [first, ...rest] = code;
    await type(page, `${wrong(first)}a b${rest.slice(0, 4).join("")}0`.slice(0, -1));
    assert.equal(await page.inputValue("#code"), wrong(first) + rest.slice(0, 4).join(""));
    await page.keyboard.press("Backspace");
    assert.equal((await page.inputValue("#code")).length, 4);
    await page.keyboard.press("Home");
    await page.keyboard.type(first);
    await page.keyboard.type("x");
    assert.equal(await page.inputValue("#code"), code.slice(0, 4));
    assert.equal(await page.locator("#drawn i").nth(1).getAttribute("class"), "filled at");
    await page.keyboard.press("End");
    await page.keyboard.type(code.slice(4));
    await step(page, "done");
  });

  test("there are as many boxes as a code has digits", async (t) => {
    const page = await open(t, { settings: { OTP_CODE_LENGTH: "8" } });
    await send(page);
    assert.equal(await page.locator("#drawn i").count(), 8);
    await type(page, await read(page));
    await step(page, "done");
  });

  test("wrong codes are counted down, and the fifth locks", async (t) => {
    const page = await open(t, { settings: { OTP_RESEND_COOLDOWN_SECONDS: "1" } });
    await send(page);
    const code = await read(page);
    for (const left of ["4 intentos", "3 intentos", "2 intentos", "1 intento"]) {
      await type(page, wrong(code));
      await expectText(page, "#problem", left);
      assert.equal(await page.inputValue("#code"), "");
    }
    await type(page, wrong(code));
    await expectText(page, "#problem", "Demasiados intentos");
    assert.ok(await page.isDisabled("#code"));
    assert.ok(await page.isHidden("#resend"), "the main button sends another code");
    await page.locator("#go[aria-disabled=false]").filter({ hasText: "Enviar otro código" }).click();
    await page.locator("#code:enabled").waitFor();
    await messages(page, 2);
    await type(page, await read(page));
    await step(page, "done");
  });

  test("an expired code is reported, and another one can be requested", { timeout: 120_000 }, async (t) => {
    const page = await open(t, { settings: { OTP_EXPIRATION_MINUTES: "1", OTP_RESEND_COOLDOWN_SECONDS: "1" } });
    // Without the expiry, the page learns it from the gateway's answer.
    await page.route("**/send-verification-sms", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), expires_at: undefined } });
    }, { times: 1 });
    await page.route("**/otp-status/*", (route) => route.abort());
    await send(page);
    const code = await read(page);
    await page.waitForTimeout(61_000);
    await type(page, code);
    await expectText(page, "#problem", "El código venció");
    await page.click("#go");
    await messages(page, 2);
    await type(page, await read(page));
    await step(page, "done");
  });

  test("another code can be requested after a countdown", async (t) => {
    const page = await open(t, { settings: { OTP_RESEND_COOLDOWN_SECONDS: "4" } });
    await send(page);
    const pressed = () => page.evaluate(() => {
      const button = document.getElementById("resend");
      if (button.ariaDisabled === "true") button.click();
      return button.ariaDisabled === "true" && button.textContent.match(/0:0\d/)[0];
    });
    const seen = new Set();
    for (let time; (time = await pressed()); await page.waitForTimeout(200)) seen.add(time);
    assert.ok(seen.size >= 3, [...seen].join(" "));
    await expectText(page, "#news", "Ya puedes pedir otro código");
    assert.equal(await page.locator("#sms-list article").count(), 1, "presses during the countdown sent nothing");
    await page.click("#resend");
    await messages(page, 2);
  });

  test("a lost connection is reported, and the typed code is checked when it is back", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    await page.context().setOffline(true);
    await expectText(page, "#problem", "No hay conexión. Lo que escribiste sigue aquí");
    await type(page, code);
    await expectText(page, "#problem", "No hay conexión");
    assert.equal(await page.inputValue("#code"), code);
    await page.context().setOffline(false);
    await step(page, "done");
  });

  test("a repeated request after a lost answer sends nothing twice, even after a reload", async (t) => {
    const page = await open(t);
    await loseAnswer(page, "send-verification-sms");
    await page.click("#go");
    await expectText(page, "#problem", "No hay conexión. Inténtalo");
    await page.reload();
    await send(page);
    await type(page, await read(page));
    await step(page, "done");
    assert.equal(await page.locator("#sms-list article").count(), 1);
  });

  test("a reload continues at the same step, and stores neither code nor token", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    await type(page, code.slice(0, 3));
    const kept = await page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage }) + document.cookie);
    assert.ok(!kept.includes(code) && !kept.includes("eyJ") && !/"\d{3}"/.test(kept), kept);
    await page.reload();
    await step(page, "code");
    await expectText(page, "#lead", "4567");
    assert.match(await page.textContent("#resend"), /0:\d\d/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "code");
    await type(page, await read(page));
    await step(page, "done");
  });

  test("everything works from the keyboard", async (t) => {
    const page = await open(t);
    const active = () => page.evaluate(() => {
      const { id, value, lang } = document.activeElement;
      return id || value || lang;
    });
    const tabTo = async (id) => {
      for (let n = 0; n < 12 && (await active()) !== id; n++) await page.keyboard.press("Tab");
      assert.equal(await active(), id);
      const outline = await page.evaluate(() => {
        const active = document.activeElement;
        const shown = getComputedStyle(active.type === "radio" ? active.nextElementSibling : active);
        return active.id === "code" || shown.outlineStyle !== "none";
      });
      assert.ok(outline, `${id} shows that it has the focus`);
    };
    await tabTo("sms");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.isChecked("[value=email]"));
    await page.keyboard.press("ArrowLeft");
    await tabTo("go");
    await page.keyboard.press("Enter");
    await step(page, "code");
    await page.waitForFunction(() => document.activeElement.id === "code");
    await page.keyboard.type(wrong(await read(page)));
    await expectText(page, "#problem", "4 intentos");
    await page.waitForFunction(() => document.activeElement.id === "code");
    await tabTo("resend");
    await tabTo("back");
    await tabTo("sms-list");
    await page.keyboard.press("Tab");
    await withClipboard(() => page.keyboard.press("Enter").then(() => step(page, "done")));
    assert.equal(await active(), "title");
    await tabTo("go");
    await page.keyboard.press("Enter");
    await step(page, "ask");
  });

  test("the browser reads the SMS if it supports WebOTP", async (t) => {
    const page = await open(t);
    // Chromium on a desktop cannot read SMS: the API is replaced.
    await page.evaluate(() => {
      window.OTPCredential = class {};
      navigator.credentials.get = (options) => {
        window.asked = options;
        return new Promise((resolve) => (window.smsArrived = (code) => resolve({ code })));
      };
    });
    await send(page);
    assert.deepEqual(await page.evaluate(() => window.asked.otp.transport), ["sms"]);
    const code = await read(page);
    await page.evaluate((code) => window.smsArrived(code), code);
    await step(page, "done");
    assert.ok(await page.evaluate(() => window.asked.signal.aborted), "the page stops waiting for an SMS");
  });

  test("it uses the browser's language, or the selected one", async (t) => {
    const page = await open(t, { language: "pt-BR" });
    await expectText(page, "#title", "Confirme que é você");
    await page.click("[lang=en]");
    await expectText(page, "#title", "Confirm it’s you");
    assert.equal(await page.getAttribute("html", "lang"), "en");
    await send(page);
    await expectText(page, "#sms-list", "your verification code");
    await page.reload();
    await expectText(page, "#title", "Enter the code");
  });

  test("every error in the API's documentation has a text in every language", async (t) => {
    const page = await open(t);
    const texts = await page.evaluate(async () => (await import("/texts.js")).TEXTS);
    const openapi = JSON.parse(readFileSync(new URL("../../docs/openapi.json", import.meta.url), "utf8"));
    // Errors of callbacks and of the console never reach a person.
    const others = [
      "signature_refused", "not_recorded", "not_suppressed", "request_in_progress", "no_override", "too_many_overrides",
    ];
    const codes = openapi.components.schemas.ProblemCode.enum.filter((code) => !others.includes(code));
    assert.ok(codes.length > 30, `${codes.length} codes`);
    const keys = (table) => Object.keys(table).sort();
    for (const [language, table] of Object.entries(texts)) {
      for (const code of codes) assert.ok(table.errors[code], `${language} has no text for ${code}`);
      assert.deepEqual(keys(table), keys(texts.en), language);
      for (const part of ["errors", "scripts"]) assert.deepEqual(keys(table[part]), keys(texts.en[part]), language);
    }
  });

  for (const [number, text, reports] of [
    ["+573005551610", "El operador rechazó el mensaje"],
    ["+573005551408", "El operador rechazó el mensaje"],
    ["+576012345678", "Es un teléfono fijo"],
    ["+34612345678", "No enviamos códigos a ese país"],
    ["123", "Ese número no es válido"],
    ["+573005553003", "El mensaje no llegó", true],
  ]) {
    test(`${number} shows what went wrong`, async (t) => {
      const page = await open(t, { settings: { SMS_ALLOWED_COUNTRIES: "CO" } });
      await choose(page, number);
      await (reports ? send(page) : page.click("#go"));
      await expectText(page, "#problem", text);
    });
  }

  test("a result that does not come in time is polled for", async (t) => {
    const page = await open(t, { settings: { HTTP_SEND_WAIT_MS: "0" } });
    await send(page);
    await expectText(page, "#lead", "Va en camino");
    await expectText(page, "#lead", "Lo enviamos a");
    await expectText(page, "#news", "Entregado");
  });

  test("a code arrives by e-mail", async (t) => {
    const page = await open(t);
    await page.locator("[value=email]").check();
    await send(page);
    await expectText(page, "#email-list h2", "código de verificación");
    await expectText(page, "#news", "Entregado");
    await type(page, await read(page, "email"));
    await step(page, "done");
    await expectText(page, "#lead", /a•••@e•••/);
  });

  test("a channel that the gateway lacks is reported", async (t) => {
    const page = await open(t);
    await page.route("**/send-verification-email", (route) => route.fulfill({ status: 404, json: { code: "not_found" } }));
    await page.locator("[value=email]").check();
    await page.click("#go");
    await expectText(page, "#problem", "todavía no existe");
  });

  test("nothing shakes with reduced motion", async (t) => {
    const page = await open(t, { reducedMotion: "reduce" });
    await send(page);
    await type(page, wrong(await read(page)));
    await page.waitForSelector(".wrong");
    assert.equal(await page.evaluate(() => getComputedStyle(document.getElementById("boxes")).animationName), "none");
  });

  test("it fits a small phone", async (t) => {
    const page = await open(t, { viewport: { width: 320, height: 640 }, settings: { OTP_CODE_LENGTH: "10" } });
    const overflows = () => page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(await overflows(), false);
    await send(page);
    await type(page, "123456789");
    assert.equal(await overflows(), false);
    const [box, field] = [await page.locator("#drawn i").last().boundingBox(), await page.locator("#code").boundingBox()];
    assert.ok(box.x + box.width <= 320 && field.x >= 0);
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`the page has no accessibility violation, ${colorScheme}`, { timeout: 60_000 }, async (t) => {
      const page = await open(t, { colorScheme });
      const check = async (state) => {
        // Colours in transition would be measured wrongly.
        await page.evaluate(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)));
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => window.axe.run());
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
        assert.deepEqual(found, [], state);
      };
      await check("asking");
      await choose(page, "123");
      await page.click("#go");
      await expectText(page, "#problem", "no es válido");
      await check("refused");
      await choose(page, "+573001234567");
      await send(page);
      const code = await read(page);
      await check("code");
      for (const left of ["4 intentos", "3 intentos", "2 intentos", "1 intento"]) {
        await type(page, wrong(code));
        await expectText(page, "#problem", left);
      }
      await check("wrong");
      await type(page, wrong(code));
      await expectText(page, "#problem", "Demasiados intentos");
      await check("locked");
      await choose(page, "+573001234568");
      await send(page);
      await expectText(page, "#sms-list", "4568");
      await type(page, await read(page));
      await step(page, "done");
      await check("done");
      await page.click("#go");
      await page.locator("[value=email]").check();
      await send(page);
      await read(page, "email");
      await check("e-mail");
    });
  }
});
