// The simulated phone: shows each message; a click on a code fills it in.

import { clock, dotted, say, write } from "./words.js";

const $ = (id) => document.getElementById(id);
const RECONNECT_MS = 3000;
const HIGHLIGHT_MS = 3000;

/**
 * Shows messages from now on. Calls `pick` with a clicked code and its recipient, and `changed` after every change, with
 * the channel of a new message. A hidden tab closes its stream, because browsers and the gateway limit their number.
 */
export function listen(pick, changed) {
  let stream, reconnect, seen = 0;
  const close = () => {
    clearTimeout(reconnect);
    stream?.close();
  };
  const open = () => {
    close();
    const opened = (stream = new EventSource("/dev/messages"));
    opened.onmessage = ({ data, lastEventId }) => {
      // A new stream repeats all stored messages.
      if (Number(lastEventId) <= seen) return;
      seen = Number(lastEventId);
      const message = JSON.parse(data);
      show(message, pick);
      changed(message.channel);
    };
    opened.onopen = opened.onerror = () => {
      $("empty").dataset.lost = opened.readyState === EventSource.OPEN ? "" : "lost";
      // EventSource reconnects on its own, except after a response that is not a stream.
      if (opened.readyState === EventSource.CLOSED) reconnect = setTimeout(open, RECONNECT_MS);
      changed();
    };
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  if (!document.hidden) open();
}

function show(message, pick) {
  const item = document.createElement("article");
  if (Date.now() - Date.parse(message.at) < HIGHLIGHT_MS) item.className = "new";
  item.dataset.to = message.to;
  const small = document.createElement("small");
  small.dataset.at = message.at;
  const text = document.createElement(message.subject ? "div" : "p");
  const code = document.createElement("button");
  Object.assign(code, { type: "button", textContent: message.code, onkeydown: move, onclick: () => pick(message.code, message.to) });
  // The autofill line at the end repeats the code.
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
  $(`${message.channel}-list`).append(item);
}

/** The arrow keys go from one code to the next. */
function move(event) {
  const step = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
  if (!step) return;
  event.preventDefault();
  event.target.closest("article")[step]?.querySelector("button").focus();
}

/** Draws a channel. While a recipient waits for a code, all messages but the newest one to it are dimmed. */
export function drawHandset(channel, waitingRecipient) {
  for (const list of document.querySelectorAll(".messages")) {
    list.hidden = list.id !== `${channel}-list`;
    for (const item of list.children) {
      const isOld = item !== list.lastChild || (waitingRecipient && item.dataset.to !== waitingRecipient);
      item.classList.toggle("old", Boolean(isOld));
      const small = item.querySelector("small");
      write(small, `${clock(Date.parse(small.dataset.at))} · ${say("to", { to: dotted(item.dataset.to) })}`);
      const code = item.querySelector("button");
      // The newest code is the only tab stop: earlier ones do not stand before it.
      code.tabIndex = item === list.lastChild ? 0 : -1;
      code.ariaLabel = say("use", { code: code.textContent });
    }
  }
  const isLost = $("empty").dataset.lost === "lost";
  $("empty").hidden = $(`${channel}-list`).childElementCount > 0 && !isLost;
  write($("empty"), say(isLost ? "reconnecting" : "empty"));
  write($("app"), say(channel === "sms" ? "messages" : "mail"));
  write($("clock"), clock(Date.now()));
}

/** Scrolls to the newest message: in its list and, if it is awaited, on the page. */
export function reveal(channel, isAwaited) {
  const list = $(`${channel}-list`);
  const newest = list.lastElementChild;
  if (!newest) return;
  list.scrollTop = newest.offsetTop - list.firstElementChild.offsetTop;
  if (isAwaited) newest.querySelector("button").scrollIntoView({ block: "nearest" });
}
