// One recipient's limits and last requests, one request's history, and suppressions.

import { call } from "./api.js";
import { act, badge, card, duration, empty, h, plural, s, sentence, time, words } from "./draw.js";
import { suppressions } from "./suppressions.js";

export const people = {
  id: "people",
  title: "People",
  mount(root, { start }) {
    const request = requestCard();
    root.append(h("div", { class: "pair" }, recipientCard(request.look), request.element));
    const listed = suppressions();
    root.append(listed.element);
    if (start?.request) request.look(start.request);
    return listed.end;
  },
};

// --- a recipient ---

function recipientCard(look) {
  const to = h("input", { id: "to", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "254", required: true });
  const button = h("button", { class: "primary" }, "Look up");
  const place = h("div", { class: "place" }), found = h("div", { class: "place", "aria-live": "polite" });
  const submit = (event) => {
    event.preventDefault();
    act(button, place, async () => {
      found.replaceChildren();
      const [limits, recent] = await Promise.all([
        call("POST", "sms/rate-limit", { to: to.value }), call("POST", "sms/requests", { to: to.value }),
      ]);
      found.replaceChildren(drawLimits(limits), h("h3", null, "Requests of the last day"), drawRecent(recent.requests, look));
    });
  };
  return card("A recipient",
    h("form", { class: "inline", submit }, h("label", { for: "to" }, "Phone number or e-mail address"), to, button), place, found);
}

function drawLimits(row) {
  const meter = (name, used, limit) => {
    const isFull = limit > 0 && used >= limit;
    const text = limit > 0 ? `${used} of ${limit}` : `${used}, no limit`;
    return h("li", null, h("span", { class: "name" }, name), h("span", { class: "number" }, text),
      limit > 0 && s("svg", { class: `bar ${isFull ? "wrong" : "good"}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { class: "track", width: 100, height: 6 }), s("rect", { class: "part", width: Math.min(100, (used / limit) * 100), height: 6 })));
  };
  const state = row.resets_at ? [badge("limited", "wrong"), " until ", time(row.resets_at)]
    : row.cooldown > 0 ? [badge("cooling down", "warning"), ` for ${duration(row.cooldown)}`] : [badge("within its limits", "good")];
  return h("div", { class: "limits" },
    h("p", { class: "found" }, h("b", null, row.to), " ", state),
    h("ul", { class: "bars" },
      meter(`Sends in ${duration(row.window)}`, row.used, row.limit), meter("Sends in a day", row.used_day, row.limit_day),
      meter("Wrong codes in an hour", row.used_wrong, row.limit_wrong)),
    row.all_resets_at && h("p", { class: "hint" }, "The cap over all sends is reached until ", time(row.all_resets_at), "."));
}

const ENDS = { sent: "good", rejected: "", failed: "wrong", unknown: "warning" };

function drawRecent(requests, look) {
  if (requests.length === 0) return empty("None is recorded. One that HTTP refused before the queue (429) leaves no record.");
  const row = (request) => h("li", null,
    h("span", { class: "at" }, time(request.at)),
    badge(words(request.status ?? request.state), ENDS[request.status]),
    h("span", { class: "why" }, [request.reason, request.receipt].filter(Boolean).map(words).join(", ") || request.text || ""),
    h("button", { type: "button", class: "plain id", click: () => look(request.request_id) }, request.request_id));
  return h("ul", { class: "recent" }, requests.map(row));
}

// --- a request ---

function requestCard() {
  const id = h("input", { id: "request", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "128", required: true });
  const button = h("button", { class: "primary" }, "Explain");
  const place = h("div", { class: "place" }), found = h("div", { class: "place", "aria-live": "polite" });
  const look = (given) => {
    id.value = given ?? id.value.trim();
    return act(button, place, async () => {
      found.replaceChildren();
      found.replaceChildren(drawHistory(await call("GET", `sms/requests/${encodeURIComponent(id.value)}`)));
      if (given) element.scrollIntoView({ block: "nearest" });
    });
  };
  const submit = (event) => {
    event.preventDefault();
    look();
  };
  const element = card("A request",
    h("form", { class: "inline", submit }, h("label", { for: "request" }, "Request id"), id, button), place, found);
  return { element, look };
}

function drawHistory(request) {
  const facts = [
    ["To", request.to], ["Purpose", request.purpose], ["Attempts", plural(request.attempts, "attempt")],
    ["Provider", request.provider], ["Message", request.provider_message_id && h("code", null, request.provider_message_id)],
    ["Deadline", request.deadline && time(request.deadline)], ["Code", request.code && sentence(request.code.text)],
  ].filter(([, value]) => value);
  const step = ({ at, text, what }) => h("li", { class: what }, time(at), h("span", null, sentence(text)));
  return h("div", { class: "history" },
    h("p", { class: "found" }, badge(request.status ?? words(request.state), ENDS[request.status]), " ", sentence(request.text)),
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", null, name), h("dd", null, value)])),
    h("ol", { class: "timeline" }, request.timeline.map(step)),
    request.shortened && h("p", { class: "hint" }, "Some steps in the middle are missing: the history was too long."));
}
