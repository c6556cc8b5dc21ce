// Suppressed recipients: the list, adding one, and ending one.

import { call } from "./api.js";
import { act, announce, card, confirmed, empty, h, loading, problem, sentence, table, time } from "./draw.js";

export function suppressions() {
  let isOver = false;
  const list = h("div", { class: "place" }, loading());
  const read = async () => {
    try {
      const answer = await call("GET", "ops/suppressions");
      if (!isOver) list.replaceChildren(drawList(answer));
    } catch (error) {
      if (!("code" in error)) throw error;
      if (!isOver) list.replaceChildren(problem(sentence(error.message)));
    }
  };
  read();
  const element = card("Suppressions",
    h("p", { class: "hint" }, "Requests to a suppressed recipient end as suppressed: nothing is sent to it."), changes(read), list);
  return { element, end: () => (isOver = true) };
}

function changes(read) {
  const to = h("input", { id: "suppress-to", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "254", required: true });
  const reason = h("input", { id: "suppress-reason", autocomplete: "off", maxlength: "200" });
  const hours = h("input", { id: "suppress-hours", type: "number", inputmode: "numeric", min: "1", max: "87600" });
  const add = h("button", { class: "primary" }, "Suppress");
  const remove = h("button", { type: "button", class: "quiet" }, "End its suppression");
  const place = h("div", { class: "place" });
  const submit = (event) => {
    event.preventDefault();
    act([add, remove], place, async () => {
      const added = await call("POST", "ops/suppressions", {
        to: to.value, reason: reason.value.trim() || null, hours: hours.value === "" ? null : Number(hours.value),
      });
      announce(`${added.to} is suppressed.`);
      form.reset();
      await read();
    });
  };
  remove.addEventListener("click", () => {
    if (!to.reportValidity()) return;
    act([add, remove], place, async () => {
      const isSure = await confirmed({
        title: "End the suppression?", button: "End it", text: "Messages are sent to this recipient again. One that has opted out at the provider still gets none.",
      });
      if (!isSure) return;
      const removed = await call("POST", "ops/suppressions/remove", { to: to.value });
      announce(`${removed.to} is not suppressed any more.`);
      form.reset();
      await read();
    });
  });
  const form = h("form", { class: "fields", submit },
    h("div", null, h("label", { for: "suppress-to" }, "Phone number or e-mail address"), to),
    h("div", null, h("label", { for: "suppress-reason" }, "Reason (shown in the list)"), reason),
    h("div", null, h("label", { for: "suppress-hours" }, "Hours (none: until it is ended)"), hours),
    h("div", { class: "actions" }, add, remove));
  return h("div", null, form, place);
}

function drawList({ suppressions: rows, more }) {
  if (rows.length === 0) return empty("No recipient is suppressed.");
  const why = ({ provider_code, reason }) =>
    provider_code ? `provider’s number ${provider_code}` : reason ?? "added by an operator, or reported without a number";
  const row = (entry) => [entry.to, entry.since ? time(entry.since) : "–", entry.until ? time(entry.until) : "no end", why(entry)];
  return h("div", null, table("Suppressed recipients", ["recipient", "since", "until", "why"], rows.map(row)),
    more && h("p", { class: "hint" }, "There are more: otpost suppressions list shows them."));
}
