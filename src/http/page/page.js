// A sample front end for codes: requests one, accepts it typed, pasted or read from an SMS, verifies it, and shows errors.
// `render` draws everything from `state` and `now`.

import { ApiError, callAs, CHANNELS, ENDS_A_CODE, LOST_ANSWERS, maskedAddresses, toLocalTime } from "./gateway.js";
import { drawHandset, listen, reveal } from "./handset.js";
import { TEXTS } from "./texts.js";
import { clock, digitsIn, digitsOf, dotted, errorText, inAscii, minutes, preferredLanguage, say, texts, write } from "./words.js";

/** News about one click or paste. They leave after this time, and when the answer to a check comes. */
const BRIEF_NEWS = ["filled", "put", "copied", "notCopied", "noCode", "online"];
const BRIEF_NEWS_MS = 4000;
/** Pauses between polls of a request's status: two minutes in all. */
const POLL_PAUSES_MS = [1500, 1500, 2000, 3000, 5000, 7000, 10000, 15000, 15000, 30000, 30000];

const $ = (id) => document.getElementById(id);

// Kept over a reload: never a code, never a token.
const FRESH = {
  step: "ask", to: "", request: "", status: "", length: 6, until: 0, resendAt: 0, checkAt: 0,
  // `key`: idempotency key of an unanswered request. `lost`: the answer to a check was lost. `over`: the error that ended
  // this code. `held`: the error that delays checks.
  key: "", lost: false, over: "", held: "",
};
const state = {
  language: preferredLanguage(), channel: "sms", phone: "+573001234567", email: "ana@example.com",
  // By channel, the state of a pending code while the person uses another channel.
  kept: {}, ...FRESH,
};
// Not kept over a reload.
const now = {
  busy: "", problem: null, news: "", newsTimer: 0, smsReader: null, arrivedCode: "", waited: false, visit: 0,
  masked: {}, // The gateway's masked form of each address: null for an invalid one.
};

const inSeconds = (seconds) => Date.now() + seconds * 1000;
const left = (time) => Math.max(0, Math.ceil((time - Date.now()) / 1000));
/** Sets the focus after drawing, when the element can take it. */
const focusSoon = (id) => setTimeout(() => $(id).focus());
const person = () => ({ phone_number: state.phone, email: state.email, locale: state.language });

function announceBriefly(news) {
  clearTimeout(now.newsTimer);
  now.news = news;
  now.newsTimer = setTimeout(() => (endBriefNews(), render()), BRIEF_NEWS_MS);
}

function endBriefNews() {
  if (BRIEF_NEWS.includes(now.news)) now.news = "";
}

// --- the flow ---

/** Runs one action at a time and shows its error. */
async function runExclusively(action, work) {
  if (now.busy) return;
  Object.assign(now, { busy: action, problem: null, news: "" });
  render();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "left") now.problem = error;
  } finally {
    now.busy = "";
    endBriefNews();
    if (now.arrivedCode) fill(now.arrivedCode);
    now.arrivedCode = "";
    save();
    render();
  }
}

/** Calls the API as the current person. Discards the answer if the person has changed meanwhile. */
async function callApi(method, path, body, headers) {
  const { visit } = now;
  const answer = await callAs(person(), method, path, body, headers).catch((error) => error);
  if (visit !== now.visit) throw new ApiError("left");
  if (answer instanceof Error) throw answer;
  return answer;
}

const requestCode = () => runExclusively("send", async () => {
  const channel = CHANNELS[state.channel];
  // The key is kept until the outcome is known, even over a reload: repeating a request whose answer was lost sends
  // nothing twice and leads to the code that was sent.
  state.key ||= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  save();
  try {
    const sent = await callApi("POST", channel.send, { otp_type: channel.otp_type }, { "Idempotency-Key": state.key });
    Object.assign(state, FRESH, {
      step: "code", to: sent.to, request: sent.request_id, status: sent.status, length: sent.code_length,
      until: toLocalTime(sent.expires_at), resendAt: inSeconds(sent.resend_after),
    });
    awaitCode();
  } catch (error) {
    if (error.request) state.key = "";
    if (error.wait) state.resendAt = inSeconds(error.wait);
    if (error.code !== "cooldown" || !pendingCode()) throw error;
    resume();
  }
});

/** The state of an earlier code on this channel that is still valid. */
function pendingCode() {
  const kept = state.kept[state.channel];
  return kept && !kept.over && Date.now() < (kept.until || Infinity) && kept;
}

function resume() {
  Object.assign(state, pendingCode(), { resendAt: state.resendAt });
  awaitCode();
}

/** Shows the field for the code, and starts to read the SMS and to poll the status. */
function awaitCode() {
  delete state.kept[state.channel];
  Object.assign(now, { problem: null, waited: left(state.resendAt) > 0 });
  $("code").value = "";
  save();
  render();
  readSms();
  pollStatus(state.request);
  setTimeout(() => {
    $("code").focus();
    reveal(state.channel, true);
  });
}

const check = () => runExclusively("verify", async () => {
  try {
    const { to } = await callApi("POST", CHANNELS[state.channel].verify, { otp_code: $("code").value });
    Object.assign(state, FRESH, { step: "done", to, resendAt: state.resendAt });
    stopReadingSms();
    focusSoon("title");
  } catch (error) {
    handleCheckError(error);
  }
});

/** Enter, or a press of the inactive button, before all digits are typed. */
function reportMissingDigits() {
  if (state.step !== "code" || state.over || now.busy || left(state.checkAt) || isFull()) return;
  now.problem = new ApiError("digits_missing");
  shake();
  focusSoon("code");
  render();
}

/** Decides after a failed check whether the code can be typed again. */
function handleCheckError(error) {
  const { wait } = error;
  let { code } = error;
  if (LOST_ANSWERS.includes(code)) state.lost = true;
  if (error.attempts === 0) code = "too_many_attempts";
  if (code === "code_used" && state.lost) code = "perhaps_verified";
  if (code === "no_pending_code" && state.status === "queued") code = "not_yet";
  if (wait) state.checkAt = inSeconds(wait);
  if (code === "wrong_code" || ENDS_A_CODE.includes(code)) {
    $("code").value = "";
    shake();
  }
  if (ENDS_A_CODE.includes(code) && !wait) return endCode(code);
  focusSoon("code");
  // The hourly limit also applies to a new code.
  if (code === "too_many_attempts") state.held = "too_many_tries";
  else throw Object.assign(error, { code });
}

/** The code is of no use. The focus moves to the button for another one, or to the title while that has to wait. */
function endCode(code) {
  state.over = code;
  now.news = "";
  $("code").value = "";
  stopReadingSms();
  const hasFocus = [$("code"), $("go"), $("resend"), document.body].includes(document.activeElement);
  if (hasFocus) focusSoon(left(state.resendAt) ? "title" : "go");
}

/** Polls the status of a request until its message is delivered or cannot arrive. */
async function pollStatus(request) {
  const isCurrent = () => state.step === "code" && state.request === request && !state.over;
  for (const pause of POLL_PAUSES_MS) {
    await new Promise((wake) => setTimeout(wake, pause));
    if (!isCurrent()) return;
    const found = await callApi("GET", `otp-status/${encodeURIComponent(request)}`).catch(() => null);
    if (!found || !isCurrent()) continue;
    state.status = found.status;
    state.until = toLocalTime(found.expires_at) || state.until;
    if (now.problem?.code === "not_yet" && found.status !== "queued") now.problem = null;
    if (["rejected", "failed"].includes(found.status)) {
      // Nothing was sent, so there is no cooldown.
      state.resendAt = inSeconds(found.error?.retry_after ?? 0);
      now.problem = null;
      endCode(found.error?.code ?? "internal");
    }
    const delivery = found.delivery?.status;
    if (["undelivered", "failed"].includes(delivery)) now.problem = new ApiError("undelivered");
    if (["delivered", "read"].includes(delivery)) now.news = "delivered";
    save();
    render();
    if (now.problem?.code === "undelivered" || now.news === "delivered") return;
  }
}

/** Lets the browser read the SMS, if it supports WebOTP. */
function readSms() {
  stopReadingSms();
  if (!("OTPCredential" in window) || state.channel !== "sms") return;
  now.smsReader = new AbortController();
  const credential = navigator.credentials.get({ otp: { transport: ["sms"] }, signal: now.smsReader.signal });
  credential.then((credential) => credential && fill(credential.code)).catch(() => {});
}

function stopReadingSms() {
  now.smsReader?.abort();
  now.smsReader = null;
}

/** Returns to the first step, for the same person or another. */
function restart(changes = {}) {
  stopReadingSms();
  Object.assign(state, FRESH, changes);
  Object.assign(now, { problem: null, news: "", arrivedCode: "", visit: now.visit + 1 });
  $("code").value = "";
  save();
  render();
}

/** Returns to the choice of channel and keeps the pending code. */
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

const selectChannel = (channel) => restart({ channel, resendAt: state.kept[channel]?.resendAt ?? 0 });

function selectPerson(changes) {
  restart({ ...changes, kept: {} });
  showAddresses();
}

/** Reads the masked addresses from the gateway: the page shows no second form of its own. */
async function showAddresses() {
  now.masked = {};
  const { visit } = now;
  const masked = await maskedAddresses(person()).catch(() => ({}));
  if (visit === now.visit) render(Object.assign(now, { masked }));
}

// --- the field ---

const isFull = () => $("code").value.length === state.length;

function typed(event) {
  // An input method may change its text until the composition ends.
  if (event?.isComposing) return;
  if (event) endBriefNews();
  const field = $("code");
  const digits = digitsOf(field.value).slice(0, state.length);
  if (digits !== field.value) {
    const at = digitsOf(field.value.slice(0, field.selectionStart)).length;
    field.value = digits;
    field.setSelectionRange(at, at);
  }
  if (["wrong_code", "not_yet", "digits_missing"].includes(now.problem?.code) && digits) now.problem = null;
  render();
  if (isFull() && Date.now() >= state.checkAt) check();
}

/** In the middle of a code, a typed digit replaces the next one, as in separate boxes. */
function beforeTyped(event) {
  const { selectionStart: from, selectionEnd: to } = event.target;
  const isDigit = event.inputType === "insertText" && /^\d$/.test(inAscii(event.data ?? ""));
  if (isDigit && from === to) event.target.setSelectionRange(from, from + 1);
}

/** Accepts a pasted or dropped message. */
function pasted(event) {
  event.preventDefault();
  const field = event.target;
  if (field.readOnly) return;
  const digits = digitsIn((event.clipboardData ?? event.dataTransfer).getData("text"), state.length);
  if (!digits) {
    announceBriefly("noCode");
    return render();
  }
  const [from, to] = digits.length === state.length ? [0, field.value.length] : [field.selectionStart, field.selectionEnd];
  field.setRangeText(digits, from, to, "end");
  typed();
}

/** Fills in a code; true if it was accepted. A code that arrives during a check is filled in afterwards. */
function fill(code) {
  if (state.step !== "code" || state.over || code.length !== state.length) return false;
  if (now.busy) {
    now.arrivedCode = code;
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

/** Fills in and copies a code clicked on the phone. The code of another person is only copied. */
async function pick(code, to) {
  const isIn = !now.busy && to === state.to && fill(code);
  const isChecked = isIn && now.busy;
  const copied = await navigator.clipboard?.writeText(code).then(() => true, () => false);
  // The answer to the check is the later news.
  if (isChecked && !now.busy) return;
  announceBriefly(isIn ? (copied ? "filled" : "put") : copied ? "copied" : "notCopied");
  render();
}

// --- rendering ---

/** The latest error, or else the one that ended the code. */
function problem() {
  if (now.problem || state.step !== "code") return now.problem;
  const code = state.over || (left(state.checkAt) && state.held);
  return code ? { code } : null;
}

/** A code that is of no use, and checks that have to wait, have titles of their own. */
function titleText() {
  const { step, over } = state;
  if (step !== "code") return say(step === "ask" ? "title" : "doneTitle");
  if (over) return say(over === "too_many_attempts" ? "lockedTitle" : "overTitle");
  return say(left(state.checkAt) && state.held ? "heldTitle" : "codeTitle");
}

/** The action of the main button, its texts, and the time until which it waits. */
function mainAction() {
  const { step, over, resendAt, checkAt } = state;
  const asking = { work: requestCode, busy: "send", doing: "sending", until: resendAt, can: true };
  if (step === "done") return { work: again, does: "again", can: true };
  if (step === "code" && !over) {
    return { work: check, does: "verify", busy: "verify", doing: "verifying", until: checkAt, waits: "wait", can: isFull() };
  }
  if (step === "code") return { ...asking, does: "resend", waits: "resendIn" };
  // A pending code on this channel can still be typed.
  if (pendingCode() && left(resendAt)) return { work: resume, does: "resume", can: true };
  return { ...asking, does: "send", waits: "wait" };
}

/** An inactive button uses `aria-disabled`, so that it keeps the focus. */
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
  write($("title"), titleText());
  const sent = { queued: "queued", unknown: "perhapsSentTo", rejected: "notSent", failed: "notSent" }[state.status] ?? "sentTo";
  write($("lead"), say({ ask: "lead", code: sent, done: "done" }[step], { to: dotted(state.to) }));
  write($("problem"), problem() ? errorText(problem(), state) : "");
  write($("news"), now.news && say(now.news, { n: length }));

  $("form").elements.channel.value = channel;
  const { phone_number, email } = now.masked;
  write($("sms-to"), phone_number === null ? state.phone : dotted(phone_number ?? ""));
  write($("email-to"), email === null ? state.email : dotted(email ?? ""));
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
  field.ariaInvalid = String(["wrong_code", "digits_missing"].includes(now.problem?.code));
  const until = state.until ? ` ${say("until", { time: clock(state.until) })}` : "";
  write($("hint"), state.step !== "code" || state.over ? "" : say("codeHint", { n: length }) + until);
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

/** Runs every second. */
function tick() {
  if (state.step === "code") {
    const isOver = state.until && Date.now() >= state.until;
    if (isOver && !state.over && !now.busy) {
      now.problem = null;
      endCode("code_expired");
      save();
    }
    if (now.waited && !left(state.resendAt)) Object.assign(now, { waited: false, news: "resendNow" });
  }
  render();
}

// --- start ---

function save() {
  try {
    sessionStorage.setItem("otpost", JSON.stringify(state));
  } catch {
    // Without storage, a reload starts over.
  }
}

function start() {
  try {
    Object.assign(state, JSON.parse(sessionStorage.getItem("otpost")));
  } catch {
    // Unreadable state is ignored.
  }
  // The second click of a double click was meant for the previous action of the button.
  const press = (id, work, workIfInactive = () => {}) => $(id).addEventListener("click", ({ detail }) => {
    if (detail < 2) ($(id).ariaDisabled === "true" ? workIfInactive : work)();
  });
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("form").addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  press("go", () => mainAction().work(), reportMissingDigits);
  press("resend", requestCode);
  press("back", back);
  $("code").addEventListener("beforeinput", beforeTyped);
  $("code").addEventListener("input", typed);
  $("code").addEventListener("compositionend", () => typed());
  for (const kind of ["paste", "drop"]) $("code").addEventListener(kind, pasted);
  document.addEventListener("selectionchange", () => renderCode(state.length));
  $("ask").addEventListener("change", ({ target }) => selectChannel(target.value));
  for (const choice of $("languages").children) {
    choice.addEventListener("click", () => (Object.assign(state, { language: choice.lang }), save(), render()));
  }
  $("script").addEventListener("change", ({ target: { value } }) => {
    if (value === "other") $("phone").focus();
    else selectPerson({ phone: value, channel: "sms" });
  });
  $("phone").addEventListener("change", ({ target }) => selectPerson({ phone: target.value.trim(), channel: "sms" }));
  $("email").addEventListener("change", ({ target }) => selectPerson({ email: target.value.trim(), channel: "email" }));
  addEventListener("offline", () => (now.problem = new ApiError("offline"), render()));
  addEventListener("online", () => {
    if (now.problem?.code === "offline") {
      now.problem = null;
      announceBriefly("online");
    }
    render();
    if (state.step === "code" && !state.over && !left(state.checkAt) && isFull()) check();
  });
  setInterval(tick, 1000);
  render();
  showAddresses();
  listen(pick, (arrived) => {
    render();
    if (arrived) reveal(arrived, arrived === state.channel && state.step === "code");
  });
  if (state.step !== "code") return;
  if (state.over) endCode(state.over);
  else awaitCode();
}

start();
