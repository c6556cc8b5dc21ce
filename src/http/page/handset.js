// The telephone of a simulation: each message as it comes, and codes that a click takes over.

import { clock, dotted, say, write } from "./words.js";

const $ = (id) => document.getElementById(id);
const LISTEN_AGAIN_MS = 3000;
const NEW_FOR_MS = 3000;

/**
 * Shows messages from now on. `pick` is told a code that was clicked, and whose it is; `changed` that there is something
 * to see, and the channel of a message that is new here. A browser has few connections for all its tabs, and the gateway
 * few seats: a tab that nobody looks at gives its own up.
 */
export function listen(pick, changed) {
  let stream, again, seen = 0;
  const close = () => {
    clearTimeout(again);
    stream?.close();
  };
  const open = () => {
    close();
    const opened = (stream = new EventSource("/dev/messages"));
    opened.onmessage = ({ data, lastEventId }) => {
      // A new stream tells everything from the beginning.
      if (Number(lastEventId) <= seen) return;
      seen = Number(lastEventId);
      const message = JSON.parse(data);
      show(message, pick);
      changed(message.channel);
    };
    opened.onopen = opened.onerror = () => {
      $("empty").dataset.lost = opened.readyState === EventSource.OPEN ? "" : "lost";
      // It tries again by itself, but not after an answer that is no stream.
      if (opened.readyState === EventSource.CLOSED) again = setTimeout(open, LISTEN_AGAIN_MS);
      changed();
    };
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  if (!document.hidden) open();
}

function show(message, pick) {
  const item = document.createElement("article");
  if (Date.now() - Date.parse(message.at) < NEW_FOR_MS) item.className = "new";
  item.dataset.to = message.to;
  const small = document.createElement("small");
  small.dataset.at = message.at;
  const text = document.createElement(message.subject ? "div" : "p");
  const code = document.createElement("button");
  Object.assign(code, { type: "button", textContent: message.code, onclick: () => pick(message.code, message.to) });
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
  $(`${message.channel}-list`).append(item);
}

/** Draws it for a channel. While a code is awaited by somebody, all but the newest message to them are old. */
export function drawHandset(channel, awaitedBy) {
  for (const list of document.querySelectorAll(".messages")) {
    list.hidden = list.id !== `${channel}-list`;
    for (const item of list.children) {
      const isOld = item !== list.lastChild || (awaitedBy && item.dataset.to !== awaitedBy);
      item.classList.toggle("old", Boolean(isOld));
      const small = item.querySelector("small");
      write(small, `${clock(Date.parse(small.dataset.at))} · ${say("to", { to: dotted(item.dataset.to) })}`);
      const code = item.querySelector("button");
      code.ariaLabel = say("use", { code: code.textContent });
    }
  }
  const isLost = $("empty").dataset.lost === "lost";
  $("empty").hidden = $(`${channel}-list`).childElementCount > 0 && !isLost;
  write($("empty"), say(isLost ? "reconnecting" : "empty"));
  write($("app"), say(channel === "sms" ? "messages" : "mail"));
  write($("clock"), clock(Date.now()));
}

/** Brings the newest message into sight: in its list, and if it is awaited on the page. */
export function reveal(channel, isAwaited) {
  const list = $(`${channel}-list`);
  const newest = list.lastElementChild;
  if (!newest) return;
  list.scrollTop = newest.offsetTop - list.firstElementChild.offsetTop;
  if (isAwaited) newest.querySelector("button").scrollIntoView({ block: "nearest" });
}
