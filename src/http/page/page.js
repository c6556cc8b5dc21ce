// What a front end does with codes: asks for one, takes it from wherever it comes, checks it, and says what went wrong.
// Beside it, the telephone of a simulation. All that is shown follows from `state` and `now`, by `render`.

import { TEXTS } from "./texts.js";

const WAYS = {
  sms: { send: "send-verification-sms", verify: "verify-phone-otp", otp_type: "SMS" },
  email: { send: "send-verification-email", verify: "verify-email-otp", otp_type: "EMAIL" },
};
/** With these no try is left for the code; only another one helps. */
const ENDS_A_CODE = ["code_expired", "code_used", "no_pending_code", "too_many_attempts"];
/** Pauses between looks at what became of a message: two minutes together. */
const LOOKS_MS = [1500, 1500, 2000, 3000, 5000, 7000, 10000, 15000, 15000, 30000, 30000];
const ANSWER_WITHIN_MS = 15000;

const $ = (id) => document.getElementById(id);

// What outlives a reload: never a code, never a token.
const FRESH = { step: "ask", to: "", request: "", status: "", length: 6, until: 0, resendAt: 0, checkAt: 0, over: false };
const state = { language: spoken(), channel: "sms", phone: "+573001234567", email: "ana@example.com", ...FRESH };
// What does not.
const now = { busy: "", problem: null, news: "", token: null, key: null, hearing: null, waited: false, visit: 0 };

// --- the gateway ---

/** An answer that is no success, or none at all. */
class Refusal extends Error {
  constructor(code, answer = {}) {
    super(code);
    Object.assign(this, { code, attempts: answer.attempts_remaining, wait: answer.retry_after });
  }
}

async function call(method, path, body, headers = {}) {
  const json = body && { body: JSON.stringify(body) };
  if (body) headers = { "Content-Type": "application/json", ...headers };
  let response, answer;
  try {
    response = await fetch(path, { method, headers, ...json, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    answer = JSON.parse((await response.text()) || "{}");
  } catch (error) {
    if (error instanceof SyntaxError) throw new Refusal(`HTTP ${response.status}`);
    throw new Refusal(error.name === "TimeoutError" ? "timed_out" : "offline");
  }
  if (!response.ok) throw new Refusal(answer.code ?? `HTTP ${response.status}`, answer);
  return answer;
}

/**
 * Asks as the person. A token is for an address and a language, and another is got where one has expired. An answer for
 * somebody who has left meanwhile is none.
 */
async function asPerson(method, path, body, headers = {}) {
  const person = { phone_number: state.phone, email: state.email, locale: state.language };
  const whom = JSON.stringify(person);
  const { visit } = now;
  for (const last of [false, true]) {
    if (now.token?.whom !== whom) now.token = { whom, ...(await call("POST", "/dev/token", person)) };
    try {
      const bearer = { Authorization: `Bearer ${now.token.token}` };
      const answer = await call(method, `/api/v1/auth/${path}`, body, { ...headers, ...bearer });
      if (visit === now.visit) return answer;
      throw new Refusal("left");
    } catch (refusal) {
      if (visit !== now.visit) throw new Refusal("left");
      if (refusal.code !== "invalid_token" || last) throw refusal;
      now.token = null;
    }
  }
}

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
    save();
    render();
  }
}

const ask = () => doing("send", async () => {
  const way = WAYS[state.channel];
  // The same key until there is an answer: if only that was lost, asking again sends nothing twice.
  now.key ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    const sent = await asPerson("POST", way.send, { otp_type: way.otp_type }, { "Idempotency-Key": now.key });
    now.key = null;
    Object.assign(state, FRESH, {
      step: "code", to: sent.to, request: sent.request_id, status: sent.status, length: sent.code_length,
      until: Date.parse(sent.expires_at) || 0, resendAt: inSeconds(sent.resend_after),
    });
    now.waited = true;
    $("code").value = "";
    hear();
    follow(sent.request_id);
    setTimeout(() => $("code").focus());
  } catch (refusal) {
    if (!["offline", "timed_out"].includes(refusal.code)) now.key = null;
    if (refusal.wait) Object.assign(state, { resendAt: inSeconds(refusal.wait) });
    throw refusal;
  }
});

const check = () => doing("verify", async () => {
  try {
    const code = $("code").value;
    const { to } = await asPerson("POST", WAYS[state.channel].verify, { otp_code: code });
    Object.assign(state, FRESH, { step: "done", to });
    now.news = "";
    leave();
    setTimeout(() => $("title").focus());
  } catch (refusal) {
    if (refusal.attempts === 0) refusal = new Refusal("too_many_attempts");
    if (refusal.code === "wrong_code" || ENDS_A_CODE.includes(refusal.code)) {
      $("code").value = "";
      shake();
    }
    if (refusal.wait) state.checkAt = inSeconds(refusal.wait);
    else if (ENDS_A_CODE.includes(refusal.code)) state.over = true;
    setTimeout(() => $(state.over ? "resend" : "code").focus());
    throw refusal;
  }
});

/** Looks what became of a message: it may still be on its way, and what was sent need not arrive. */
async function follow(request) {
  for (const pause of LOOKS_MS) {
    await new Promise((wake) => setTimeout(wake, pause));
    if (state.step !== "code" || state.request !== request) return;
    const found = await asPerson("GET", `otp-status/${encodeURIComponent(request)}`).catch(() => null);
    if (!found || state.step !== "code" || state.request !== request) continue;
    state.status = found.status;
    state.until = Date.parse(found.expires_at) || state.until;
    if (["rejected", "failed"].includes(found.status)) {
      now.problem = new Refusal(found.error?.code ?? "internal");
      state.over = true;
    }
    const delivery = found.delivery?.status;
    if (["undelivered", "failed"].includes(delivery)) now.problem = new Refusal("undelivered");
    if (["delivered", "read"].includes(delivery)) now.news = "delivered";
    save();
    render();
    if (state.over || now.problem?.code === "undelivered" || now.news === "delivered") return;
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
  Object.assign(now, { problem: null, news: "", key: null, visit: now.visit + 1 });
  $("code").value = "";
  save();
  render();
}

// --- the field ---

const isFull = () => $("code").value.length === state.length;

function typed() {
  const field = $("code");
  const digitsOf = (text) => text.normalize("NFKC").replace(/\D/g, "").slice(0, state.length);
  const digits = digitsOf(field.value);
  if (digits !== field.value) {
    const at = digitsOf(field.value.slice(0, field.selectionStart)).length;
    field.value = digits;
    field.setSelectionRange(at, at);
  }
  if (now.problem?.code === "wrong_code" && digits) now.problem = null;
  render();
  if (isFull() && Date.now() >= state.checkAt) check();
}

/** In the middle of a code a digit takes the place of another, as in boxes. */
function beforeTyped(event) {
  const { selectionStart: from, selectionEnd: to } = event.target;
  const isDigit = event.inputType === "insertText" && /^\d$/.test(event.data);
  if (isDigit && from === to) event.target.setSelectionRange(from, from + 1);
}

/** A whole message may be pasted: the code is the number of the right length in it. */
function pasted(event) {
  const text = event.clipboardData.getData("text");
  const code = text.match(new RegExp(`(?<!\\d)\\d{${state.length}}(?!\\d)`))?.[0];
  if (!code) return;
  event.preventDefault();
  event.target.value = code;
  typed();
}

/** Answers whether the code was of use. */
function fill(code) {
  if (state.step !== "code" || state.over || code.length !== state.length) return false;
  $("code").value = code;
  typed();
  return true;
}

function shake() {
  $("boxes").classList.remove("wrong");
  requestAnimationFrame(() => $("boxes").classList.add("wrong"));
}

// --- the telephone ---

function listen() {
  const messages = new EventSource("/dev/messages");
  messages.onmessage = ({ data }) => show(JSON.parse(data));
  messages.onopen = messages.onerror = () => {
    $("empty").dataset.lost = messages.readyState === EventSource.OPEN ? "" : "lost";
    render();
  };
}

function pick(code) {
  navigator.clipboard?.writeText(code).catch(() => {});
  now.news = fill(code) ? "filled" : "copied";
  render();
}

function show(message) {
  const item = document.createElement("article");
  if (Date.now() - Date.parse(message.at) < 3000) item.className = "new";
  const small = document.createElement("small");
  small.dataset.to = message.to;
  small.dataset.at = message.at;
  const text = document.createElement(message.subject ? "div" : "p");
  const code = document.createElement("button");
  Object.assign(code, { type: "button", textContent: message.code, onclick: () => pick(message.code) });
  // A line for autofill has the code once more, at the end.
  const [before, ...after] = message.text.trim().split(message.code);
  text.append(before, code, after.join(message.code));
  if (message.subject) {
    const subject = document.createElement("h2");
    subject.textContent = message.subject;
    item.append(subject, small, text);
  } else {
    item.append(text, small);
  }
  $("sender").textContent = message.from;
  $("avatar").textContent = message.from.slice(0, 1);
  const list = $(`${message.channel}-list`);
  list.append(item);
  render();
  list.scrollTop = message.subject ? item.offsetTop - list.firstChild.offsetTop : list.scrollHeight;
}

// --- what is seen ---

const inSeconds = (seconds) => Date.now() + seconds * 1000;
const left = (time) => Math.max(0, Math.ceil((time - Date.now()) / 1000));
const clock = (time) => new Date(time).toLocaleTimeString(state.language, { hour: "2-digit", minute: "2-digit" });
const say = (key, values = {}) => (TEXTS[state.language][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name]);

function minutes(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const [hours, rest] = [Math.floor(seconds / 3600), seconds % 3600];
  return hours ? `${hours}:${two(Math.floor(rest / 60))}:${two(rest % 60)}` : `${Math.floor(rest / 60)}:${two(rest % 60)}`;
}

function spoken() {
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((language) => language in TEXTS) ?? "en";
}

/** A masked address, for people. */
const dotted = (to) => to.replace(/\*+/g, to.includes("@") ? "•••" : " ••• ••• ");

function problemText() {
  if (!now.problem) return "";
  const { code, attempts } = now.problem;
  const { errors } = TEXTS[state.language];
  const told = errors[code] ?? errors.unknown.replace("{code}", code);
  if (attempts === undefined) return told;
  return `${told} ${say(attempts === 1 ? "attempt" : "attempts", { n: attempts })}`;
}

/** Writes only what changed: a live region is read out when it is written to. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that cannot be pressed now keeps the focus, and says so. */
function button(id, text, can) {
  write($(id), text);
  $(id).setAttribute("aria-disabled", String(!can));
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
  const sent = { queued: "queued", unknown: "perhapsSentTo" }[state.status] ?? "sentTo";
  write($("lead"), say({ ask: "lead", code: sent, done: "done" }[step], { to: dotted(state.to) }));
  write($("problem"), problemText());
  write($("news"), now.news && say(now.news));

  $("form").elements.channel.value = channel;
  write($("sms-to"), dotted(state.phone.replace(/^(\+?\d{2}).*(\d{4})$/, "$1***$2")));
  write($("email-to"), dotted(state.email.replace(/^(.).*@/, "$1***@")));
  renderCode(length);
  renderWaits();
  renderPhone();
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
  field.disabled = state.over;
  field.readOnly = now.busy === "verify";
  field.ariaInvalid = String(now.problem?.code === "wrong_code");
  const until = state.until && !state.over ? ` ${say("until", { time: clock(state.until) })}` : "";
  write($("hint"), say("codeHint", { n: length }) + until);
}

function renderWaits() {
  const [resend, again] = [left(state.resendAt), left(state.checkAt)];
  const [does, doing, wait, can] = {
    ask: ["send", "sending", resend, true],
    code: ["verify", "verifying", again, isFull() && !state.over],
    done: ["again", "again", 0, true],
  }[state.step];
  const text = now.busy ? say(doing) : wait ? say("wait", { time: minutes(wait) }) : say(does);
  button("go", text, can && !wait && !now.busy);
  button("resend", resend ? say("resendIn", { time: minutes(resend) }) : say("resend"), !now.busy && !resend);
}

function renderPhone() {
  const lists = { sms: $("sms-list"), email: $("email-list") };
  for (const [channel, list] of Object.entries(lists)) list.hidden = channel !== state.channel;
  for (const small of document.querySelectorAll("[data-at]")) {
    const { at, to } = small.dataset;
    write(small, `${clock(Date.parse(at))} · ${say("to", { to: dotted(to) })}`);
  }
  for (const code of document.querySelectorAll(".messages button")) code.ariaLabel = say("use", { code: code.textContent });
  const isLost = $("empty").dataset.lost === "lost";
  $("empty").hidden = lists[state.channel].childElementCount > 0 && !isLost;
  write($("empty"), say(isLost ? "reconnecting" : "empty"));
  write($("app"), say(state.channel === "sms" ? "messages" : "mail"));
  write($("clock"), new Date().toTimeString().slice(0, 5));

  const scripts = Object.entries(TEXTS[state.language].scripts);
  if (!$("script").length) $("script").append(...scripts.map(([number]) => new Option("", number)));
  scripts.forEach(([number, what], i) => {
    write($("script").options[i], number === "other" ? what : `${what} · ${number.slice(-4)}`);
  });
  $("script").value = state.phone in TEXTS.en.scripts ? state.phone : "other";
  for (const id of ["phone", "email"]) if (document.activeElement !== $(id)) $(id).value = state[id];
}

// --- beginning ---

function save() {
  sessionStorage.setItem("otpost", JSON.stringify(state));
}

function start() {
  try {
    Object.assign(state, JSON.parse(sessionStorage.getItem("otpost")));
  } catch {
    // What cannot be read is as good as nothing.
  }
  const again = () => (restart(), $("go").focus());
  const press = (id, work) => $(id).addEventListener("click", () => $(id).ariaDisabled !== "true" && work());
  $("form").addEventListener("submit", (event) => event.preventDefault());
  press("go", () => ({ ask, code: check, done: again })[state.step]());
  press("resend", ask);
  press("back", () => (restart({ resendAt: state.resendAt }), $("form").elements.channel[0].focus()));
  $("code").addEventListener("beforeinput", beforeTyped);
  $("code").addEventListener("input", typed);
  $("code").addEventListener("paste", pasted);
  document.addEventListener("selectionchange", () => renderCode(state.length));
  $("ask").addEventListener("change", ({ target }) => restart({ channel: target.value }));
  for (const choice of $("languages").children) {
    choice.addEventListener("click", () => (Object.assign(state, { language: choice.lang }), save(), render()));
  }
  $("script").addEventListener("change", ({ target: { value } }) => {
    if (value === "other") $("phone").focus();
    else restart({ phone: value, channel: "sms" });
  });
  $("phone").addEventListener("change", ({ target }) => restart({ phone: target.value.trim(), channel: "sms" }));
  $("email").addEventListener("change", ({ target }) => restart({ email: target.value.trim(), channel: "email" }));
  addEventListener("offline", () => (now.problem = new Refusal("offline"), render()));
  addEventListener("online", () => {
    Object.assign(now, now.problem?.code === "offline" ? { problem: null, news: "online" } : {});
    render();
    if (state.step === "code" && isFull()) check();
  });
  setInterval(() => {
    if (now.waited && state.step === "code" && !left(state.resendAt)) {
      Object.assign(now, { waited: false, news: "resendNow" });
    }
    write($("news"), now.news && say(now.news));
    renderWaits();
  }, 1000);
  render();
  listen();
  if (state.step !== "code") return;
  now.waited = left(state.resendAt) > 0;
  $("code").focus();
  hear();
  follow(state.request);
}

start();
