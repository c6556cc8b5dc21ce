// The operators' console through an incident, as an operator lives it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";

import { consoleStage } from "./console_stage.js";
import { browser as launch } from "./stage.js";

const WITHIN_MS = 45_000;
const VIEWS = ["overview", "conversion", "spend", "defence", "stop", "people", "dead-letters", "audit"];
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Opens the console, and signs in, unless the options say otherwise. A browser error fails the test. */
async function open(t, stage, { signIn = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WITHIN_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (line) => /Content Security Policy/.test(line.text()) && complaints.push(line.text()));
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  await page.goto(stage.url);
  if (signIn) await enter(page, await stage.token());
  return page;
}

async function enter(page, token) {
  await page.fill("#token", token);
  await page.click("#enter");
  await page.locator("#nav").waitFor();
}

const go = async (page, view) => {
  await page.click(`#nav [href="#${view}"]`);
  await page.locator(`#view > .${view}`).waitFor({ state: "attached" });
};
const shows = (page, selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor();

/** The WCAG rules of axe-core, and its best practices. */
async function expectAccessible(page, where) {
  // The page's policy refuses a script of others, so the tool comes by the debugger.
  await page.evaluate(`${await readFile(AXE, "utf8")};0`);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [where, id, nodes.map((node) => node.html)]), []);
}

/** A dry run that fails leaves no button of the dry run before it. */
async function expectReplayOfItsOwnDryRun(page, requestId) {
  const path = "**/ops/dead-letters/replay";
  const asked = [];
  await page.route(path, (route) => {
    const { ids, dry_run, force } = route.request().postDataJSON();
    asked.push([dry_run, force]);
    const results = [
      { id: ids[0], result: "refused", why: "it was sent", can_be_forced: true, request_id: requestId },
      { id: "0123456789ab", result: "would_replay", request_id: "other", new_request_id: "other~r1" },
    ];
    return route.fulfill(force ? { status: 503, json: { code: "unavailable", detail: "the broker is away" } } : { json: { dry_run, results } });
  });
  await page.click("text=Check a replay of 1");
  await shows(page, ".plan button", "Replay 1");
  await page.click("#force");
  await shows(page, ".problem", "The broker is away");
  assert.equal(await page.locator(".plan button").count(), 0, "its button is gone");
  await page.locator("button:text-is('Check a replay of 1'):focus").waitFor();
  assert.deepEqual(asked, [[true, false], [true, true]]);
  await page.unroute(path);
  // Another choice forgets `force`.
  await page.uncheck(".letters input[type=checkbox]");
  await page.check(".letters input[type=checkbox]");
}

const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);

/** Signs in only with a token that the endpoints accept, and keeps it nowhere. */
test("a token opens the console, and stays in memory", async (t) => {
  const stage = await consoleStage();
  t.after(stage.stop);
  const page = await open(t, stage, { signIn: false });
  await expectAccessible(page, "sign in");
  for (const [token, problem] of [
    ["nonsense", "not valid here"], ["two words", "This is no token"], [await stage.token("otp:send"), "lacks “otp:admin”"],
  ]) {
    await page.fill("#token", token);
    await page.click("#enter");
    await shows(page, "#door-problem", problem);
    assert.equal(await page.inputValue("#token"), "", "a refused token does not stay in its field");
  }
  const token = await stage.token();
  await enter(page, `Bearer ${token}\n`);
  await shows(page, "#title", "Overview");
  const kept = await page.evaluate(() => [document.cookie, { ...localStorage }, { ...sessionStorage }, location.href, document.documentElement.outerHTML, document.getElementById("token").value].map((part) => JSON.stringify(part)).join());
  assert.ok(!kept.includes(token), "the token is nowhere in the page");
  await page.reload();
  await page.locator("#door").waitFor();
  assert.equal(await page.locator("#nav").isVisible(), false, "a reload forgets it");
  await enter(page, token);
  await page.click("#leave");
  await shows(page, "#news", "Signed out");
  assert.equal(await page.locator("#view > *").count(), 0);
  const made = [];
  page.on("request", (request) => made.push(request.url()));
  await page.waitForTimeout(6_000);
  assert.deepEqual(made, [], "nothing is read any more");
});

describe("an incident", { concurrency: 1 }, () => {
  let stage, page, damaged;
  const ends = [];
  before(async () => {
    // Without a cooldown, as the request with the broken record never ends for the store.
    stage = await consoleStage({ OTP_RESEND_COOLDOWN_SECONDS: "0", SPEND_PER_HOUR_MAX: "3" });
    page = await open({ after: (end) => ends.push(end) }, stage);
  });
  after(async () => {
    for (const end of ends) await end();
    await stage?.stop();
  });

  test("the circuit breaker opens, a backlog grows, and both pass", async () => {
    await shows(page, ".well", "All is well");
    await stage.send(1_000_000, 12);
    await shows(page, ".outcomes .bars li", /sent\s*12/);
    await shows(page, ".workers td", "open");
    await shows(page, ".tile .value", /ms/);

    stage.twilio.refuses = true;
    const [first] = await stage.send(2_000_000, 1);
    await shows(page, ".problems .wrong", "SMS is paused at 1 worker by breaker (provider's number 20003)");
    await shows(page, ".workers .badge.wrong", "closed: breaker");
    await shows(page, ".workers", "provider’s number 20003");
    await shows(page, "#nav .count.wrong", "1");
    await stage.send(3_000_000, 25);
    await shows(page, ".tile", /Waiting in the queue\s*2[0-9]/);
    assert.ok((await page.locator(".tile svg.line").count()) === 4, "four lines are drawn");
    // Its record breaks meanwhile: the request cannot be handled any more.
    damaged = { id: first, mend: await stage.damage(first) };

    stage.twilio.refuses = false;
    await shows(page, ".tile", /Waiting in the queue\s*0/);
    await shows(page, ".outcomes .bars li", /sent\s*37/);
    await shows(page, ".workers td", "open");
    assert.equal(new Set(stage.twilio.sent).size, 37, "each waiting request was sent");
  });

  test("the dead letter is replayed after a dry run", async () => {
    await shows(page, ".problems .warning", "1 dead letter waits");
    await page.click(".problems button");
    await shows(page, "#title", "Dead letters");
    await shows(page, ".letters b", damaged.id);
    await shows(page, ".letters .badge", "record");
    await page.click("summary");
    await shows(page, ".excerpt", '"to":"+############"');
    assert.equal(await page.getAttribute("text=Check a replay", "aria-disabled"), "true", "nothing is chosen");
    await page.check(`.letters input[type=checkbox]`);
    await expectReplayOfItsOwnDryRun(page, damaged.id);
    await page.click("text=Check a replay of 1");
    await shows(page, ".result", "refused");
    await shows(page, ".plan", "0 requests would be published again, 1 request not. Nothing has changed yet.");
    await damaged.mend();
    await page.click("#force");
    await page.locator("#force:checked:focus").waitFor();
    await shows(page, ".result", `would be replayed as ${damaged.id}~r1`);
    await page.click("text=Replay 1");
    await shows(page, "dialog", "People may get a second message");
    await page.keyboard.press("Escape");
    assert.equal((await stage.otpost("dead-letters", "list")).includes(damaged.id), true, "Escape changes nothing");
    await page.click("text=Replay 1");
    await page.click("#dialog-ok");
    await shows(page, ".done", "1 dead letter replayed");
    await shows(page, ".empty", "No dead letters");
    assert.equal(await stage.otpost("dead-letters", "list"), "no dead letters");
    await page.click(".done .id");
    const sent = page.locator(".timeline li").filter({ hasText: "Ended as sent" });
    await page.locator(".timeline").waitFor();
    // It may still be on its way.
    while (await sent.count() === 0) await page.click("text=Explain");
    await shows(page, ".timeline li", "Attempt 1: the provider took the message");
    assert.equal(stage.twilio.sent.length, 38);
  });

  test("the kill switch stops and resumes, by keyboard alone", async () => {
    await page.focus('#nav [href="#stop"]');
    await page.keyboard.press("Enter");
    await shows(page, ".switch", "Messages are sent");
    await page.keyboard.press("Tab");
    await page.keyboard.type("pumping, seen at +57 300 123 4567");
    await page.keyboard.press("Enter");
    await page.locator("#dialog-cancel:focus").waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await shows(page, ".switch.is-on", "Nothing is sent");
    await shows(page, ".switch .facts", "pumping, seen at +## ### ### ####");
    await page.locator("#title:focus").waitFor();
    assert.match(await stage.otpost("kill-switch", "status").catch((error) => error.stdout), /on since .*pumping/);
    const before = stage.twilio.sent.length;
    await stage.send(4_000_000, 3);
    await go(page, "overview");
    await shows(page, ".workers .badge.wrong", "closed: kill switch");
    await shows(page, ".tile", /Waiting in the queue\s*3/);
    assert.equal(stage.twilio.sent.length, before);
    await page.click(".problems button");
    await page.focus(".switch button");
    await page.keyboard.press("Enter");
    await page.locator("#dialog-cancel:focus").waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await shows(page, ".switch", "Messages are sent");
    await go(page, "overview");
    await shows(page, ".tile", /Waiting in the queue\s*0/);
    await shows(page, ".outcomes .bars li", /sent\s*41/);
  });

  test("a person's limits, requests and suppression", async () => {
    await go(page, "people");
    await page.fill("#to", "+573001000003");
    await page.click("text=Look up");
    await shows(page, ".limits .found", "+57******0003");
    await shows(page, ".limits li", "1 of 5");
    await page.click(".recent .id");
    await shows(page, ".history .found", "sent");
    await page.fill("#request", "unknown-7");
    await page.click("text=Explain");
    await shows(page, ".problem", "No record of this request is kept");
    await page.fill("#to", "12");
    await page.click("text=Look up");
    await shows(page, ".problem", "“to”");

    await page.fill("#suppress-to", "+573001000003");
    await page.fill("#suppress-reason", "asked for it");
    await page.fill("#suppress-hours", "24");
    await page.click("button:text-is('Suppress')");
    await shows(page, "td", "asked for it");
    const [id] = await stage.send(1_000_003, 1).catch(() => [null]);
    assert.ok(id === null || id, "HTTP may refuse it at once");
    await page.fill("#suppress-to", "+573001000003");
    await page.click("text=End its suppression");
    await page.click("#dialog-ok");
    await shows(page, ".empty", "No recipient is suppressed");
  });

  test("conversion and spend show where the money goes", async () => {
    await go(page, "conversion");
    // Workers add their counts once a second. The code of the replayed request is that of the one before it, which was not sent.
    const sent = page.locator(".report tr").filter({ hasText: /CO\s*40/ });
    for (let times = 0; times < 20 && await sent.count() === 0; times++) {
      await page.click("text=Read again");
      await page.waitForTimeout(300);
    }
    await sent.first().waitFor();
    await shows(page, ".report td", "too young");
    await page.focus('.segments button:text-is("Block")');
    await page.keyboard.press("Enter");
    await shows(page, ".report th", "block");
    await page.locator('.segments button:text-is("Block"):focus').waitFor();
    await go(page, "spend");
    // A message costs 0.04 by the estimate.
    await shows(page, ".budgets li", /This hour\s*1\.64 of 3\.00/);
    await shows(page, ".report tr", /CO\s*41\s*1\.64/);
    await page.click('.segments button:text-is("Sender")');
    await shows(page, ".report tr", "twilio 1");
  });

  test("numbers are explained, denied and let go again", async () => {
    await go(page, "defence");
    await shows(page, ".mode", "only counts");
    await shows(page, ".held", "Nothing is held");
    await page.fill("#explain-to", "+573005550000");
    await page.click("button:text-is('Explain')");
    await shows(page, ".limits .found", "+57******0000 not refused");
    await page.fill("#override-of", "+573005550000");
    await page.fill("#override-reason", "pumping");
    await page.click("button:text-is('Deny')");
    await page.click("#dialog-ok");
    await shows(page, ".overrides tr", /denied\s*\+57\*{6}0000/);
    await page.click("button:text-is('Explain')");
    await shows(page, ".limits .found", "denied by an operator");
    await page.fill("#override-of", "LV");
    await page.fill("#override-for", "12h");
    await page.fill("#override-reason", "no business there");
    await page.click("button:text-is('Deny')");
    await page.click("#dialog-ok");
    await shows(page, ".overrides tr", /denied\s*LV/);
    await page.locator(".overrides tr").filter({ hasText: "LV" }).locator("button").click();
    await page.click("#dialog-ok");
    await page.locator(".overrides tr").filter({ hasText: "LV" }).waitFor({ state: "detached" });
    await page.fill("#override-of", "12345");
    await page.fill("#override-reason", "x");
    await page.click("button:text-is('Allow')");
    await page.click("#dialog-ok");
    await shows(page, ".problem", "“to”");
    await page.fill("#override-of", "+573005550000");
    await page.click("button:text-is('Remove')");
    await page.click("#dialog-ok");
    await shows(page, ".overrides", "There is none");
  });

  test("the last acts name the operator and no number", async () => {
    await go(page, "audit");
    for (const act of ["kill switch on", "kill switch off", "replay dead letters", "suppress", "defence deny", "defence remove"]) {
      await shows(page, ".report .badge", act);
    }
    await shows(page, ".report tr", "pumping, seen at +## ### ### ####");
    await shows(page, ".report tr", "127.0.0.1");
    const text = await page.locator(".report").innerText();
    assert.ok(!/\+57300\d{7}/.test(text), text);
    await page.click('.segments button:text-is("7 days")');
    await shows(page, ".report .badge", "kill switch on");
  });

  test("a lost connection is said, and its end, too", async () => {
    await go(page, "overview");
    await page.context().setOffline(true);
    await shows(page, "#lost", "This is the state of");
    await shows(page, "#pulse", "not connected");
    await page.context().setOffline(false);
    await shows(page, "#pulse", "live");
    await page.locator("#lost").waitFor({ state: "hidden" });
  });

  test("every view is accessible, light and dark, and fits a phone", async (t) => {
    for (const colorScheme of ["light", "dark"]) {
      for (const viewport of [{ width: 1280, height: 900 }, { width: 360, height: 740 }]) {
        const other = await open(t, stage, { colorScheme, viewport });
        for (const view of VIEWS) {
          await go(other, view);
          await other.locator("[aria-busy]").first().waitFor({ state: "detached" });
          await expectAccessible(other, `${view}, ${colorScheme}, ${viewport.width}`);
          assert.ok(await fits(other), `${view} is wider than ${viewport.width}`);
        }
      }
    }
  });

  test("the log has who did what, and neither a token nor a number", async () => {
    const log = stage.lines.join("\n");
    const acts = stage.lines.map((line) => JSON.parse(line)).filter((line) => line.message === "operator act");
    const seen = acts.map((line) => line.action);
    for (const action of ["kill_switch_on", "kill_switch_off", "replay_dead_letters", "suppress", "end_suppression", "defence_deny", "defence_remove"]) {
      assert.ok(seen.includes(action), action);
    }
    for (const line of acts) assert.deepEqual([line.sub, line.client_ip], ["development-service", "127.0.0.1"]);
    assert.ok(!/\+57300\d{7}|eyJ0/.test(log), log.match(/.*(\+57300\d{7}|eyJ0).*/)?.[0]);
  });
});

test("an ended token signs out, and says why", async (t) => {
  const stage = await consoleStage();
  t.after(stage.stop);
  const page = await open(t, stage);
  await page.route("**/ops/overview", (route) => route.fulfill({
    status: 401, contentType: "application/problem+json",
    body: JSON.stringify({ type: "about:blank", title: "Unauthorized", status: 401, code: "invalid_token", detail: "the token has expired" }),
  }));
  await shows(page, "#door-problem", "You were signed out: the token has expired.");
  assert.equal(await page.locator("#view > *").count(), 0);
  await page.locator("#token:focus").waitFor();
});
