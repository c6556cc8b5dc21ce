// What a front end does with codes: asks for one, takes it from wherever it comes, checks it, and says what went wrong.
// All that is shown follows from `state` and `now`, by `render`.

import { Refusal, asPerson, hereAt } from "./gateway.js";
import { drawHandset, listen, reveal } from "./handset.js";
import { TEXTS } from "./texts.js";
import { clock, dotted, minutes, say, spoken, texts, write } from "./words.js";

const WAYS = {
  sms: { send: "send-verification-sms", verify: "verify-phone-otp", otp_type: "SMS" },
  email: { send: "send-verification-email", verify: "verify-email-otp", otp_type: "EMAIL" },
};
/** With these no try is left for the code; only another one helps. */
const ENDS_A_CODE = ["code_expired", "code_used", "perhaps_verified", "no_pending_code", "too_many_attempts"];
/** After these nobody knows whether a check was done. */
const LOSES_AN_ANSWER = ["offline", "timed_out", "provider_unavailable"];
/** Pauses between looks at what became of a message: two minutes together. */
const LOOKS_MS = [1500, 1500, 2000, 3000, 5000, 7000, 10000, 15000, 15000, 30000, 30000];

const $ = (id) => document.getElementById(id);

// What outlives a reload: never a code, never a token.
const FRESH = {
  step: "ask", to: "", request: "", status: "", length: 6, until: 0, resendAt: 0, checkAt: 0,
  // The key of a send without an answer; whether a check's answer was lost; why this code is over, and why checks wait.
  key: "", lost: false, over: "", held: "",
};
const state = {
  language: spoken(), channel: "sms", phone: "+573001234567", email: "ana@example.com",
  // By channel, a code that is awaited while somebody looks at another way.
  kept: {}, ...FRESH,
};
// What does not.
const now = { busy: "", problem: null, news: "", hearing: null, heard: "", waited: false, visit: 0 };

const inSeconds = (seconds) => Date.now() + seconds * 1000;
const left = (time) => Math.max(0, Math.ceil((time - Date.now()) / 1000));
/** The focus goes where it can go once all is drawn. */
const focusSoon = (id) => setTimeout(() => $(id).focus());

// --- the flow ---

/** One thing at a time; whatever it throws is told. */
async function doing(what, work) {
  if (now.busy) return;
  Object.assign(now, { busy: what, problem: null, news: "" });
  render();
  try {
    await work();
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    if (refusal.code !== "left") now.problem = refusal;
  } finally {
    now.busy = "";
    if (now.heard) fill(now.heard);
    now.heard = "";
    save();
    render();
  }
}

/** Asks as the person. An answer for somebody who has left meanwhile is none. */
async function mine(method, path, body, headers) {
  const { visit } = now;
  const person = { phone_number: state.phone, email: state.email, locale: state.language };
  const answer = await asPerson(person, method, path, body, headers).catch((refusal) => refusal);
  if (visit !== now.visit) throw new Refusal("left");
  if (answer instanceof Error) throw answer;
  return answer;
}

const ask = () => doing("send", async () => {
  const way = WAYS[state.channel];
  // The same key until it is known how that request ended, over a reload too: if only the answer was lost, asking again
  // sends nothing twice, and leads to the code that came.
  state.key ||= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  save();
  try {
    const sent = await mine("POST", way.send, { otp_type: way.otp_type }, { "Idempotency-Key": state.key });
    Object.assign(state, FRESH, {
      step: "code", to: sent.to, request: sent.request_id, status: sent.status, length: sent.code_length,
      until: hereAt(sent.expires_at), resendAt: inSeconds(sent.resend_after),
    });
    awaitCode();
  } catch (refusal) {
    if (refusal.request) state.key = "";
    if (refusal.wait) state.resendAt = inSeconds(refusal.wait);
    if (refusal.code !== "cooldown" || !awaited()) throw refusal;
    resume();
  }
});

/** A code that was asked for before, and is still to be typed. */
function awaited() {
  const kept = state.kept[state.channel];
  return kept && !kept.over && Date.now() < (kept.until || Infinity) && kept;
}

function resume() {
  Object.assign(state, awaited(), { resendAt: state.resendAt });
  awaitCode();
}

/** Waits for the code, by every way there is. */
function awaitCode() {
  delete state.kept[state.channel];
  Object.assign(now, { problem: null, waited: left(state.resendAt) > 0 });
  $("code").value = "";
  save();
  render();
  hear();
  follow(state.request);
  setTimeout(() => {
    $("code").focus();
    reveal(state.channel, true);
  });
}

const check = () => doing("verify", async () => {
  try {
    const { to } = await mine("POST", WAYS[state.channel].verify, { otp_code: $("code").value });
    Object.assign(state, FRESH, { step: "done", to, resendAt: state.resendAt });
    leave();
    focusSoon("title");
  } catch (refusal) {
    weigh(refusal);
  }
});

/** What a check that found no right code means for the code. */
function weigh(refusal) {
  const { wait } = refusal;
  let { code } = refusal;
  if (LOSES_AN_ANSWER.includes(code)) state.lost = true;
  if (refusal.attempts === 0) code = "too_many_attempts";
  if (code === "code_used" && state.lost) code = "perhaps_verified";
  if (code === "no_pending_code" && state.status === "queued") code = "not_yet";
  if (wait) state.checkAt = inSeconds(wait);
  if (code === "wrong_code" || ENDS_A_CODE.includes(code)) {
    $("code").value = "";
    shake();
  }
  if (ENDS_A_CODE.includes(code) && !wait) return end(code);
  focusSoon("code");
  // Those of an hour go on past a new code.
  if (code === "too_many_attempts") state.held = "too_many_tries";
  else throw Object.assign(refusal, { code });
}

/** Only another code helps: from here the focus goes to what asks for it, or if that has to wait to where it harms nothing. */
function end(code) {
  state.over = code;
  $("code").value = "";
  leave();
  const isHere = [$("code"), $("go"), $("resend"), document.body].includes(document.activeElement);
  if (isHere) focusSoon(left(state.resendAt) ? "title" : "go");
}

/** Looks what became of a message: it may still be on its way, and what was sent need not arrive. */
async function follow(request) {
  const isHere = () => state.step === "code" && state.request === request && !state.over;
  for (const pause of LOOKS_MS) {
    await new Promise((wake) => setTimeout(wake, pause));
    if (!isHere()) return;
    const found = await mine("GET", `otp-status/${encodeURIComponent(request)}`).catch(() => null);
    if (!found || !isHere()) continue;
    state.status = found.status;
    state.until = hereAt(found.expires_at) || state.until;
    if (now.problem?.code === "not_yet" && found.status !== "queued") now.problem = null;
    if (["rejected", "failed"].includes(found.status)) {
      // What was not sent is not waited for.
      state.resendAt = inSeconds(found.error?.retry_after ?? 0);
      now.problem = null;
      end(found.error?.code ?? "internal");
    }
    const delivery = found.delivery?.status;
    if (["undelivered", "failed"].includes(delivery)) now.problem = new Refusal("undelivered");
    if (["delivered", "read"].includes(delivery)) now.news = "delivered";
    save();
    render();
    if (now.problem?.code === "undelivered" || now.news === "delivered") return;
  }
}

/** Lets the browser read the SMS itself, where it can. */
function hear() {
  leave();
  if (!("OTPCredential" in window) || state.channel !== "sms") return;
  now.hearing = new AbortController();
  const heard = navigator.credentials.get({ otp: { transport: ["sms"] }, signal: now.hearing.signal });
  heard.then((credential) => credential && fill(credential.code)).catch(() => {});
}

function leave() {
  now.hearing?.abort();
  now.hearing = null;
}

/** Back to the beginning, with the same person or another. */
function restart(changes = {}) {
  leave();
  Object.assign(state, FRESH, changes);
  Object.assign(now, { problem: null, news: "", heard: "", visit: now.visit + 1 });
  $("code").value = "";
  save();
  render();
}

/** Another way, without losing the code that is awaited by this one. */
function back() {
  const { resendAt, channel } = state;
  const kept = Object.fromEntries(Object.keys(FRESH).map((name) => [name, state[name]]));
  restart({ resendAt, kept: { ...state.kept, [channel]: kept } });
  $("form").querySelector(":checked").focus();
}

function again() {
  restart({ resendAt: state.resendAt });
  $("go").focus();
}

const turnTo = (channel) => restart({ channel, resendAt: state.kept[channel]?.resendAt ?? 0 });
const become = (person) => restart({ ...person, kept: {} });

// --- the field ---

const isFull = () => $("code").value.length === state.length;
const inAscii = (text) => text.normalize("NFKC");
const digitsOf = (text) => inAscii(text).replace(/\D/g, "");

function typed(event) {
  // An input method changes its own text until it is done with it.
  if (event?.isComposing) return;
  const field = $("code");
  const digits = digitsOf(field.value).slice(0, state.length);
  if (digits !== field.value) {
    const at = digitsOf(field.value.slice(0, field.selectionStart)).length;
    field.value = digits;
    field.setSelectionRange(at, at);
  }
  if (["wrong_code", "not_yet"].includes(now.problem?.code) && digits) now.problem = null;
  render();
  if (isFull() && Date.now() >= state.checkAt) check();
}

/** In the middle of a code a digit takes the place of another, as in boxes. */
function beforeTyped(event) {
  const { selectionStart: from, selectionEnd: to } = event.target;
  const isDigit = event.inputType === "insertText" && /^\d$/.test(inAscii(event.data ?? ""));
  if (isDigit && from === to) event.target.setSelectionRange(from, from + 1);
}

/**
 * A whole message may be pasted, or dropped here: the code is the number of the right length in it. Or it is what digits
 * there are, if they are not too many: a part of another number costs a try.
 */
function pasted(event) {
  event.preventDefault();
  const field = event.target;
  if (field.readOnly) return;
  const text = inAscii((event.clipboardData ?? event.dataTransfer).getData("text"));
  const code = text.match(new RegExp(`(?<!\\d)\\d{${state.length}}(?!\\d)`))?.[0];
  const digits = code ?? digitsOf(text);
  if (!digits || digits.length > state.length) {
    now.news = "noCode";
    return render();
  }
  const [from, to] = digits.length === state.length ? [0, field.value.length] : [field.selectionStart, field.selectionEnd];
  field.setRangeText(digits, from, to, "end");
  typed();
}

/** Answers whether the code was of use. One that comes during a check waits for its end. */
function fill(code) {
  if (state.step !== "code" || state.over || code.length !== state.length) return false;
  if (now.busy) {
    now.heard = code;
    return true;
  }
  $("code").value = code;
  typed();
  return true;
}

function shake() {
  $("boxes").classList.remove("wrong");
  requestAnimationFrame(() => $("boxes").classList.add("wrong"));
}

/** A code that was clicked in the telephone: another person's is only copied. */
async function pick(code, to) {
  const isIn = !now.busy && to === state.to && fill(code);
  const copied = await navigator.clipboard?.writeText(code).then(() => true, () => false);
  if (isIn && state.step !== "code") return;
  now.news = isIn ? (copied ? "filled" : "put") : copied ? "copied" : "notCopied";
  render();
}

// --- what is seen ---

/** What stands in the way: what has just happened, or else what ended the code. */
function problem() {
  if (now.problem || state.step !== "code") return now.problem;
  const code = state.over || (left(state.checkAt) && state.held);
  return code ? { code } : null;
}

function problemText() {
  if (!problem()) return "";
  const { code, attempts } = problem();
  const { errors } = texts();
  const special = errors[`${code}:${state.channel}`] ?? errors[`${code}:${state.step}`];
  const told = special ?? errors[code] ?? errors.unknown.replace("{code}", code);
  if (attempts === undefined) return told;
  return `${told} ${say(attempts === 1 ? "attempt" : "attempts", { n: attempts })}`;
}

/** What the main button does now, in which words, and until when it waits. */
function mainAction() {
  const { step, over, resendAt, checkAt } = state;
  const asking = { work: ask, busy: "send", doing: "sending", until: resendAt, can: true };
  if (step === "done") return { work: again, does: "again", can: true };
  if (step === "code" && !over) {
    return { work: check, does: "verify", busy: "verify", doing: "verifying", until: checkAt, waits: "wait", can: isFull() };
  }
  if (step === "code") return { ...asking, does: "resend", waits: "resendIn" };
  // Nothing is sent yet, but a code is on its way.
  if (awaited() && left(resendAt)) return { work: resume, does: "resume", can: true };
  return { ...asking, does: "send", waits: "wait" };
}

/** A button that cannot be pressed now keeps the focus, and says so. */
function button(id, { does, busy, doing: isDoing, until = 0, waits, can }) {
  const seconds = left(until);
  const words = busy && now.busy === busy ? say(isDoing) : seconds ? say(waits, { time: minutes(seconds) }) : say(does);
  write($(id), words);
  $(id).ariaDisabled = String(!can || seconds > 0 || now.busy !== "");
}

function render() {
  const { step, channel, length } = state;
  document.documentElement.lang = state.language;
  for (const element of document.querySelectorAll("[data-text]")) write(element, say(element.dataset.text));
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = say(element.dataset.label);
  for (const choice of $("languages").children) choice.ariaPressed = String(choice.lang === state.language);

  $("card").dataset.step = step;
  const parts = { ask: "ask", entry: "code", others: "code", seal: "done" };
  for (const [id, at] of Object.entries(parts)) $(id).toggleAttribute("hidden", step !== at);
  write($("title"), say({ ask: "title", code: "codeTitle", done: "doneTitle" }[step]));
  const sent = { queued: "queued", unknown: "perhapsSentTo", rejected: "notSent", failed: "notSent" }[state.status] ?? "sentTo";
  write($("lead"), say({ ask: "lead", code: sent, done: "done" }[step], { to: dotted(state.to) }));
  write($("problem"), problemText());
  write($("news"), now.news && say(now.news, { n: length }));

  $("form").elements.channel.value = channel;
  write($("sms-to"), dotted(state.phone.replace(/^(\+?\d{2}).*(\d{4})$/, "$1***$2")));
  write($("email-to"), dotted(state.email.replace(/^(.).*@/, "$1***@")));
  renderCode(length);
  button("go", mainAction());
  $("resend").hidden = state.over !== "";
  button("resend", { does: "resend", busy: "send", doing: "sending", until: state.resendAt, waits: "resendIn", can: true });
  drawHandset(channel, step === "code" ? state.to : "");
  renderSimulation();
}

function renderCode(length) {
  const field = $("code");
  const drawn = $("drawn");
  $("boxes").style.setProperty("--n", length);
  while (drawn.childElementCount < length) drawn.append(document.createElement("i"));
  while (drawn.childElementCount > length) drawn.lastChild.remove();
  const at = Math.min(field.selectionStart ?? 0, length - 1);
  [...drawn.children].forEach((box, i) => {
    box.classList.toggle("filled", i < field.value.length);
    box.classList.toggle("at", i === at);
  });
  field.disabled = state.over !== "";
  field.readOnly = now.busy === "verify";
  field.ariaInvalid = String(now.problem?.code === "wrong_code");
  const until = state.until && !state.over ? ` ${say("until", { time: clock(state.until) })}` : "";
  write($("hint"), say("codeHint", { n: length }) + until);
}

function renderSimulation() {
  const lead = { rate_limited: "limits", blocked: "blockedHere" }[problem()?.code] ?? "simulationLead";
  write($("simulation-lead"), say(lead));
  const scripts = Object.entries(texts().scripts);
  if (!$("script").length) $("script").append(...scripts.map(([number]) => new Option("", number)));
  scripts.forEach(([number, what], i) => {
    write($("script").options[i], number === "other" ? what : `${what} · ${number.slice(-4)}`);
  });
  $("script").value = state.phone in TEXTS.en.scripts ? state.phone : "other";
  for (const id of ["phone", "email"]) if (document.activeElement !== $(id)) $(id).value = state[id];
}

/** What a second changes. */
function tick() {
  if (state.step === "code") {
    const isOver = state.until && Date.now() >= state.until;
    if (isOver && !state.over && !now.busy) {
      now.problem = null;
      end("code_expired");
      save();
    }
    if (now.waited && !left(state.resendAt)) Object.assign(now, { waited: false, news: "resendNow" });
  }
  render();
}

// --- beginning ---

function save() {
  try {
    sessionStorage.setItem("otpost", JSON.stringify(state));
  } catch {
    // Where nothing may be kept a reload begins anew.
  }
}

function start() {
  try {
    Object.assign(state, JSON.parse(sessionStorage.getItem("otpost")));
  } catch {
    // What cannot be read is as good as nothing.
  }
  // The second half of a double click is for what the button was.
  const press = (id, work) => $(id).addEventListener("click", ({ detail }) => {
    if (detail < 2 && $(id).ariaDisabled !== "true") work();
  });
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("form").addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  press("go", () => mainAction().work());
  press("resend", ask);
  press("back", back);
  $("code").addEventListener("beforeinput", beforeTyped);
  $("code").addEventListener("input", typed);
  $("code").addEventListener("compositionend", () => typed());
  for (const kind of ["paste", "drop"]) $("code").addEventListener(kind, pasted);
  document.addEventListener("selectionchange", () => renderCode(state.length));
  $("ask").addEventListener("change", ({ target }) => turnTo(target.value));
  for (const choice of $("languages").children) {
    choice.addEventListener("click", () => (Object.assign(state, { language: choice.lang }), save(), render()));
  }
  $("script").addEventListener("change", ({ target: { value } }) => {
    if (value === "other") $("phone").focus();
    else become({ phone: value, channel: "sms" });
  });
  $("phone").addEventListener("change", ({ target }) => become({ phone: target.value.trim(), channel: "sms" }));
  $("email").addEventListener("change", ({ target }) => become({ email: target.value.trim(), channel: "email" }));
  addEventListener("offline", () => (now.problem = new Refusal("offline"), render()));
  addEventListener("online", () => {
    Object.assign(now, now.problem?.code === "offline" ? { problem: null, news: "online" } : {});
    render();
    if (state.step === "code" && !state.over && !left(state.checkAt) && isFull()) check();
  });
  setInterval(tick, 1000);
  render();
  listen(pick, (arrived) => {
    render();
    if (arrived) reveal(arrived, arrived === state.channel && state.step === "code");
  });
  if (state.step !== "code") return;
  if (state.over) end(state.over);
  else awaitCode();
}

start();
