// Errors on the page, and the ways out of them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import {
  afterDoubleClick, choose, expectText, focused, loseAnswer, messages, open, paste, read, requests, send, step, type, withClipboard,
  wrong,
} from "./steps.js";

const AT_ONCE = { OTP_RESEND_COOLDOWN_SECONDS: "0" };
const SMS = "send-verification-sms";
const VERIFY = "verify-phone-otp";

describe("the page in trouble", { concurrency: 4 }, () => {
  test("a paste without a code costs no attempt", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    await expectText(page, "#news", "Entregado");
    const checks = requests(page, VERIFY);
    for (const text of ["1234567", "+57 300 123 4567", "2026-11-26", "hola"]) {
      await page.evaluate(() => (document.getElementById("news").textContent = ""));
      await paste(page, text);
      await expectText(page, "#news", "no hay un código de 6 dígitos");
      assert.equal(await page.inputValue("#code"), "", text);
    }
    await paste(page, "1 2");
    await page.keyboard.press("Home");
    await paste(page, "34");
    assert.equal(await page.inputValue("#code"), "3412", "a partial code is inserted at the caret");
    assert.equal(checks.length, 0);
    await paste(page, `G-${code.slice(0, 3)} ${code.slice(3)}`);
    await step(page, "done");
  });

  test("digits of an input method count when the composition ends", async (t) => {
    const page = await open(t);
    await send(page);
    const code = await read(page);
    const wide = code.replace(/\d/g, (digit) => String.fromCharCode(0xff10 + Number(digit)));
    const input = await page.context().newCDPSession(page);
    const checks = requests(page, VERIFY);
    await page.focus("#code");
    for (let n = 1; n <= wide.length; n++) {
      await input.send("Input.imeSetComposition", { text: wide.slice(0, n), selectionStart: n, selectionEnd: n });
      assert.equal(await page.inputValue("#code"), wide.slice(0, n));
    }
    assert.equal(checks.length, 0);
    await input.send("Input.insertText", { text: wide });
    await step(page, "done");
    assert.deepEqual(checks.map((check) => check.postDataJSON()), [{ otp_code: code }]);
  });

  test("the reason why a code is of no use is shown again after a reload and a reconnect", async (t) => {
    const page = await open(t, { settings: { OTP_MAX_ATTEMPTS: "1" } });
    await send(page);
    await type(page, wrong(await read(page)));
    const expectReason = async () => {
      await expectText(page, "#problem", "Demasiados intentos. Pide otro código");
      assert.ok(await page.isDisabled("#code"));
      assert.match(await page.textContent("#go"), /Enviar otro en 0:\d\d/);
    };
    await expectReason();
    await focused(page, "#title");
    await page.reload();
    await expectReason();
    await focused(page, "#title");
    await page.context().setOffline(true);
    await expectText(page, "#problem", "No hay conexión");
    await page.context().setOffline(false);
    await expectReason();
  });

  test("the expiry of a code is reported when it happens, and another one can be requested", async (t) => {
    const page = await open(t);
    await page.clock.install();
    await page.reload();
    await send(page);
    await type(page, (await read(page)).slice(0, 3));
    await expectText(page, "#news", "Entregado");
    await page.clock.fastForward("09:30");
    await expectText(page, "#news", "Ya puedes pedir otro código");
    assert.equal(await page.textContent("#problem"), "");
    await page.clock.fastForward("00:35");
    await expectText(page, "#problem", "El código venció");
    await focused(page, "#go");
    await page.reload();
    await expectText(page, "#problem", "El código venció");
    await focused(page, "#go");
    await page.locator("#go").filter({ hasText: "Enviar otro código" }).waitFor();
  });

  test("a later rejection is shown as not sent", async (t) => {
    const page = await open(t, { settings: { HTTP_SEND_WAIT_MS: "0" } });
    await choose(page, "+573005551614");
    await send(page);
    await expectText(page, "#lead", "Va en camino");
    for (const again of [false, true]) {
      if (again) await page.reload();
      await expectText(page, "#problem", "El operador rechazó el mensaje");
      await expectText(page, "#lead", "No se envió nada a +57 ••• ••• 1614");
      await focused(page, "#go");
    }
  });

  test("after too many wrong codes in an hour, another code does not help", async (t) => {
    const page = await open(t, { settings: { OTP_WRONG_PER_HOUR: "1" } });
    await send(page);
    const code = await read(page);
    await type(page, wrong(code));
    await expectText(page, "#problem", "4 intentos");
    await type(page, wrong(code));
    for (const again of [false, true]) {
      if (again) await page.reload();
      await expectText(page, "#problem", "Otro código no ayuda");
      await expectText(page, "#go", /en (59:\d\d|1:00:00)/);
    }
  });

  test("a request that may be queued is not sent twice", async (t) => {
    const page = await open(t);
    await page.route(`**/${SMS}`, async (route) => {
      await route.fetch();
      await route.fulfill({ status: 503, json: { code: "queue_unavailable" } });
    }, { times: 1 });
    await page.click("#go");
    await expectText(page, "#problem", "No pudimos recibir la petición");
    await send(page);
    await type(page, await read(page));
    await step(page, "done");
  });

  test("a pending code is kept while the person uses another channel", async (t) => {
    const page = await open(t);
    await page.clock.install();
    await page.reload();
    await send(page);
    await page.click("#back");
    await focused(page, "[value=sms]");
    await expectText(page, "#go", "Escribir el código");
    await page.locator("[value=email]").check();
    await expectText(page, "#go", "Enviar código");
    await page.locator("[value=sms]").check();
    await send(page);
    await page.click("#back");
    // On the gateway's clock, the cooldown is not over.
    await page.clock.fastForward("00:40");
    await expectText(page, "#go", "Enviar código");
    const [sent] = await Promise.all([page.waitForResponse(`**/${SMS}`), send(page)]);
    assert.equal((await sent.json()).code, "cooldown");
    await type(page, await read(page));
    await step(page, "done");
    assert.equal(await page.locator("#sms-list article").count(), 1);
  });

  test("after a lost answer to a check, a used code may mean success", async (t) => {
    const page = await open(t);
    await send(page);
    await loseAnswer(page, VERIFY);
    await type(page, await read(page));
    await expectText(page, "#problem", "No hay conexión");
    await page.click("#go");
    await expectText(page, "#problem", "Quizá fuiste tú y ya quedó verificado");
  });

  test("an SMS that arrives during a check is checked afterwards", async (t) => {
    const page = await open(t);
    await page.evaluate(() => {
      window.OTPCredential = class {};
      navigator.credentials.get = () => new Promise((resolve) => (window.smsArrived = (code) => resolve({ code })));
    });
    await send(page);
    const code = await read(page);
    let answer;
    await page.route(`**/${VERIFY}`, async (route) => {
      await new Promise((now) => (answer = now));
      await route.continue();
    }, { times: 1 });
    await type(page, wrong(code));
    await expectText(page, "#go", "Comprobando");
    await page.evaluate((code) => window.smsArrived(code), code);
    answer();
    await step(page, "done");
  });

  test("a code that is typed before the challenge exists is kept", async (t) => {
    const page = await open(t, { settings: { HTTP_SEND_WAIT_MS: "0" } });
    await page.route("**/otp-status/*", (route) => route.abort());
    const noPendingCode = { status: 404, json: { code: "no_pending_code" } };
    await page.route(`**/${VERIFY}`, (route) => route.fulfill(noPendingCode), { times: 1 });
    await send(page);
    await type(page, await read(page));
    await expectText(page, "#problem", "todavía va en camino");
    await page.click("#go");
    await step(page, "done");
  });

  test("a simulated outcome blocks no other one, except the last, which says so", async (t) => {
    const limits = { SMS_RATE_LIMIT_PER_USER: "1", SMS_RATE_LIMIT_PER_NUMBER: "1" };
    const page = await open(t, { settings: { ...limits, ...AT_ONCE } });
    const script = page.locator("#script");
    for (const outcome of ["+573005550001", "+573001234567"]) {
      await script.selectOption(outcome);
      await send(page);
    }
    await messages(page, 2);
    await page.locator("#resend[aria-disabled=false]").click();
    await expectText(page, "#problem", "Demasiados códigos pedidos o equivocados");
    await expectText(page, "#simulation-lead", "Otro número es otra persona");

    const offered = await script.locator("option").allTextContents();
    assert.deepEqual(offered.slice(-2), ["Bloquea el país entero, media hora · 1408", "Otro número"]);
    for (const [outcome, text] of [
      ["+573005551408", "El operador rechazó"],
      ["+573005550503", "no podemos enviar a ese país"],
    ]) {
      await script.selectOption(outcome);
      await page.click("#go");
      await expectText(page, "#problem", text);
    }
    await expectText(page, "#simulation-lead", "quedó bloqueado al probar el número 1408");
  });

  test("the main button does not check while another code is sent", async (t) => {
    const page = await open(t, { settings: AT_ONCE });
    await send(page);
    await page.route(`**/${SMS}`, () => {});
    await page.click("#resend");
    await expectText(page, "#resend", "Enviando");
    assert.equal(await page.textContent("#go"), "Verificar");
  });

  test("a failed copy is not reported as copied", async (t) => {
    const page = await open(t);
    await page.evaluate(() => (navigator.clipboard.writeText = () => Promise.reject(new Error("no"))));
    await send(page);
    await page.route(`**/${VERIFY}`, () => {});
    // Later, this news would replace the next.
    await expectText(page, "#news", "Entregado");
    await page.click("#sms-list button");
    await expectText(page, "#news", /^Código puesto\.$/);
  });

  test("a code of another person is not filled in", async (t) => {
    const page = await open(t);
    await send(page);
    await messages(page, 1);
    await choose(page, "+573001234599");
    await send(page);
    await messages(page, 2);
    await withClipboard(async () => {
      await page.locator("#sms-list button").first().click();
      await expectText(page, "#news", /^Código copiado\.$/);
    });
    assert.equal(await page.inputValue("#code"), "");
    await withClipboard(() => page.locator("#sms-list button").last().click());
    await step(page, "done");
  });

  test("a hidden tab closes its stream, and catches up later", async (t) => {
    const page = await open(t, { settings: AT_ONCE });
    const setHidden = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await setHidden(true);
    await send(page);
    await expectText(page, "#news", "Entregado");
    assert.equal(await page.locator("#sms-list article").count(), 0);
    await setHidden(false);
    await messages(page, 1);
    await setHidden(true);
    await setHidden(false);
    await page.click("#resend");
    await messages(page, 2);
    const shown = await page.locator("#sms-list [data-at]").evaluateAll((all) => all.map(({ dataset }) => dataset.at));
    assert.deepEqual(shown, [...new Set(shown)], "nothing is shown twice");
  });

  test("a stream that is refused is retried", async (t) => {
    const page = await open(t);
    await send(page);
    await page.route("**/dev/messages", (route) => route.fulfill({ status: 503, json: { code: "busy" } }), { times: 1 });
    await page.reload();
    await expectText(page, "#empty", "Buscando a otpost");
    await messages(page, 1);
    await page.locator("#empty").waitFor({ state: "hidden" });
  });

  test("the page works without session storage", async (t) => {
    const page = await open(t);
    await page.addInitScript(() => Object.defineProperty(window, "sessionStorage", {
      get() { throw new DOMException("denied", "SecurityError"); },
    }));
    await page.reload();
    await send(page);
    await type(page, await read(page));
    await step(page, "done");
  });

  test("a held key or a double click starts over once", async (t) => {
    const page = await open(t, { settings: AT_ONCE });
    const sends = requests(page, SMS);
    for (const [sent, press] of [
      [1, async () => {
        await page.focus("#go");
        for (let n = 0; n < 3; n++) await page.keyboard.down("Enter");
        await page.keyboard.up("Enter");
      }],
      // The button keeps its place, so the second click hits it.
      [2, () => page.evaluate(() => [1, 2].forEach((detail) => {
        document.getElementById("go").dispatchEvent(new MouseEvent("click", { detail, bubbles: true }));
      }))],
    ]) {
      await send(page);
      await messages(page, sent);
      await type(page, await read(page));
      await step(page, "done");
      await press();
      await expectText(page, "#go", "Enviar código");
      assert.equal(sends.length, sent);
    }
  });

  test("without scripts the page says in every language that it needs them", async (t) => {
    const page = await open(t, { javaScriptEnabled: false });
    for (const [language, text] of [
      ["es", "necesita JavaScript"],
      ["en", "needs JavaScript"],
      ["pt", "precisa de JavaScript"],
    ]) {
      const sentence = page.locator(`noscript [lang=${language}]`);
      assert.ok(await sentence.isVisible());
      assert.match(await sentence.textContent(), new RegExp(text));
    }
    assert.ok(await page.isHidden("#form"), "the form is hidden");
  });

  test("a wrong code is reported by text, by colour and to assistive technology, and nothing moves", async (t) => {
    const page = await open(t);
    const under = async () => (await page.locator("#go").boundingBox()).y;
    await send(page);
    await page.getByRole("status").filter({ hasText: "Entregado" }).waitFor();
    assert.equal(await page.locator("#code[inputmode=numeric][autocomplete=one-time-code]").count(), 1);
    const before = await under();
    await type(page, wrong(await read(page)));
    await page.getByRole("alert").filter({ hasText: "Ese código no es" }).waitFor();
    await page.locator("#code[aria-invalid=true]").waitFor();
    assert.equal(await under(), before);
    await page.waitForFunction(() => {
      const { color } = getComputedStyle(document.getElementById("problem"));
      return [...document.querySelectorAll("#drawn i")].every((box) => getComputedStyle(box).borderColor === color);
    });
  });

  test("forced colours are respected", async (t) => {
    const page = await open(t, { forcedColors: "active" });
    await send(page);
    const isGrey = await page.evaluate(() => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = "GrayText";
      return getComputedStyle(probe).color === getComputedStyle(document.getElementById("go")).color;
    });
    assert.ok(isGrey, "an inactive button is grey");
  });

  test("an invalid e-mail address is reported as an address", async (t) => {
    const page = await open(t);
    await page.fill("#email", "ana@");
    await page.locator("#email").blur();
    await page.click("#go");
    await expectText(page, "#problem", "Esa dirección no es válida");
  });

  test("an hour before ten has one digit", async (t) => {
    const page = await open(t, { language: "en" });
    const time = await page.evaluate(async () => (await import("/words.js")).clock(new Date(2026, 10, 26, 3, 25)));
    assert.match(time, /^3:25\sAM$/);
  });
});

describe("the page on a phone", { concurrency: 4 }, () => {
  for (const [width, height] of [[390, 844], [320, 640]]) {
    test(`${width}x${height}: the boxes and the newest code are visible together`, async (t) => {
      const options = { viewport: { width, height }, isMobile: true, hasTouch: true, reducedMotion: "reduce" };
      const page = await open(t, { settings: AT_ONCE, ...options });
      const isSeen = (locator) => locator.evaluate((element) => {
        const { top, bottom } = element.getBoundingClientRect();
        const list = element.closest(".messages")?.getBoundingClientRect();
        return top >= 0 && bottom <= innerHeight && (!list || (top >= list.top && bottom <= list.bottom));
      });
      await send(page);
      for (const count of [1, 2, 3]) {
        if (count > 1) await afterDoubleClick(page);
        if (count > 1) await page.locator("#resend[aria-disabled=false]").tap();
        await messages(page, count);
        await focused(page, "#code");
        const codes = page.locator("#sms-list button");
        await page.waitForTimeout(100);
        assert.ok(await isSeen(codes.last()), `the newest of ${count}`);
        assert.ok(await isSeen(page.locator("#boxes")), `the boxes at ${count}`);
        assert.equal(await page.locator("#sms-list .old").count(), count - 1, "older ones are dimmed");
      }
    });

    test(`${width}x${height}: addresses are complete, and buttons are large enough to touch`, async (t) => {
      const page = await open(t, { viewport: { width, height }, isMobile: true, hasTouch: true });
      await page.fill("#email", "maria.fernanda.rodriguez@estudiantes.universidad.example");
      await page.locator("#email").blur();
      for (const id of ["#sms-to", "#email-to"]) {
        const [isWhole, end] = await page.locator(id).evaluate((it) => [
          it.scrollWidth <= it.clientWidth, it.getBoundingClientRect().right,
        ]);
        assert.ok(isWhole && end < width, id);
      }
      await page.locator("[value=sms]").check();
      await send(page);
      assert.match(await page.textContent("#lead"), /\+57\u00a0•••\u00a0•••\u00a04567/);
      for (const button of await page.locator(".languages button, .plain, .primary").all()) {
        assert.ok((await button.boundingBox()).height >= 44, await button.textContent());
      }
    });
  }
});
