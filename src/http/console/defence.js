// The pumping defence: its mode, what it holds, why a number is refused, and operators' overrides.

import { call } from "./api.js";
import { act, announce, badge, bar, card, confirmed, count, duration, empty, h, loading, problem, sentence, table, time, words } from "./draw.js";

const MODES = {
  enforce: ["refuses", "good", "Requests to numbers that verify no codes are refused while their block, prefix, user or network is held."],
  monitor: ["only counts", "warning", "Nothing is refused but what an operator denies: refusals are counted and logged. DEFENCE=enforce refuses."],
  off: ["is off", "", "Codes that are not verified are not counted. An operator’s denial does not hold."],
};
/** Longer digits are no target: they would be a whole number. */
const TARGET = /^\+[1-9]\d{0,7}$/;

export const defence = {
  id: "defence",
  title: "Defence",
  mount(root) {
    let isOver = false;
    const [mode, held, list] = ["mode", "held report", "overrides report"].map((name) => h("div", { class: `place ${name}` }, loading()));
    const form = overrideForm(() => read());
    const read = async () => {
      try {
        const answer = await call("GET", "sms/defence");
        if (isOver) return;
        mode.replaceChildren(drawMode(answer.mode));
        held.replaceChildren(drawHolds(answer.holds, form.fill));
        list.replaceChildren(drawOverrides(answer.overrides, form.remove));
      } catch (error) {
        if (!("code" in error)) throw error;
        if (isOver || error.code === "left") return;
        mode.replaceChildren(problem(sentence(error.message)));
        for (const place of [held, list]) place.replaceChildren();
      }
    };
    read();
    root.append(mode,
      h("div", { class: "pair" }, explainCard(), card("Allow or deny numbers", form.element)),
      card("Held", h("p", { class: "hint" }, "Over its budget of codes that were not verified."), held),
      card("Overrides", h("p", { class: "hint" }, "They hold whatever the defence holds."), list));
    return () => (isOver = true);
  },
};

function drawMode(name) {
  const [text, kind, lead] = MODES[name] ?? [name, "", ""];
  return h("section", { class: "card mode", "aria-labelledby": "mode-title" },
    h("h2", { id: "mode-title" }, "The defence ", badge(text, kind)), h("p", { class: "lead" }, lead));
}

function drawHolds(holds, fill) {
  if (holds.length === 0) return empty("Nothing is held.");
  const row = ({ scope, name, until }) => [
    words(scope), h("code", null, name), time(until),
    TARGET.test(name) ? h("button", { type: "button", class: "plain", click: () => fill(name) }, "Allow or deny…") : "–",
  ];
  return h("div", null, table("What is held", ["scope", "name", "until, without further sends", "act"], holds.slice(0, 100).map(row)),
    holds.length > 100 && h("p", { class: "hint" }, `And ${count(holds.length - 100)} more: otpost defence status.`));
}

function drawOverrides(overrides, remove) {
  if (overrides.length === 0) return empty("There is none.");
  const isTarget = (target) => TARGET.test(target) || /^[A-Z]{2}$/.test(target);
  const row = ({ target, action, since, until, reason }) => [
    badge(action === "deny" ? "denied" : "allowed", action === "deny" ? "wrong" : "good"), h("code", null, target), time(since), time(until), reason,
    isTarget(target) ? h("button", { type: "button", class: "plain", click: (event) => remove(target, event.currentTarget) }, "Remove…") : h("small", null, "type the number above"),
  ];
  return table("Overrides", ["override", "numbers", "since", "until", "reason", "act"], overrides.map(row));
}

// --- why ---

function explainCard() {
  const to = h("input", { id: "explain-to", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "64", required: true });
  const ip = h("input", { id: "explain-ip", autocomplete: "off", spellcheck: "false", maxlength: "45" });
  const button = h("button", { class: "primary" }, "Explain");
  const place = h("div", { class: "place" }), found = h("div", { class: "place", "aria-live": "polite" });
  const submit = (event) => {
    event.preventDefault();
    act(button, place, async () => {
      found.replaceChildren();
      found.replaceChildren(drawExplanation(await call("POST", "ops/defence/explain", { to: to.value, client_ip: ip.value.trim() || null })));
    });
  };
  return card("Is a number refused?",
    h("form", { class: "explain", submit },
      h("div", null, h("label", { for: "explain-to" }, "Phone number"), to),
      h("div", null, h("label", { for: "explain-ip" }, "Client’s IP address (if known)"), ip), button), place, found);
}

const DECISIONS = { free: ["not refused", "good"], allowed: ["allowed by an operator", "good"], exempt: ["exempt: it has verified codes", "good"], denied: ["denied by an operator", "wrong"] };

function drawExplanation({ to, decision, retry_after, has_verified, scopes }) {
  const [text, kind] = DECISIONS[decision] ?? [`refused: ${words(decision)}`, "wrong"];
  const scope = (row) => h("li", null,
    h("span", { class: "name" }, `${words(row.scope)} `, h("code", null, row.name), " ", row.held && badge("held", "wrong")),
    h("span", { class: "number" }, `${count(row.unverified_hour)} of ${count(row.budget_hour)}`),
    bar(row.budget_hour > 0 ? row.unverified_hour / row.budget_hour : 1, row.held ? "wrong" : "good"),
    h("small", null, `not verified in an hour; in a day ${count(row.unverified_day)} of ${count(row.budget_day)}; pending ${count(row.pending)}`));
  return h("div", { class: "limits" },
    h("p", { class: "found" }, h("b", null, to), " ", badge(text, kind), retry_after ? ` for ${duration(retry_after)}` : ""),
    h("ul", { class: "bars" }, scopes.map(scope)),
    h("p", { class: "hint" }, has_verified ? "It has verified a code within 90 days." : "It has verified no code within 90 days."));
}

// --- overrides ---

/** The numbers of a form: a country, digits, or one number. */
const numbers = (text) => (/^[A-Za-z]{2}$/.test(text) || TARGET.test(text) ? { target: text } : { to: text });

function overrideForm(read) {
  const of = h("input", { id: "override-of", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "64", required: true, "aria-describedby": "override-hint" });
  const time_ = h("input", { id: "override-for", autocomplete: "off", spellcheck: "false", maxlength: "7", required: true, value: "1d", pattern: "[1-9][0-9]*[mhd]" });
  const reason = h("input", { id: "override-reason", autocomplete: "off", maxlength: "200", required: true });
  const [deny, allow, end] = [["primary danger", "Deny"], ["quiet", "Allow"], ["quiet", "Remove"]].map(([kind, text]) => h("button", { type: "button", class: kind }, text));
  const place = h("div", { class: "place" });
  const set = (action) => {
    if (!element.reportValidity()) return;
    act([deny, allow, end], place, async () => {
      const isSure = await confirmed({
        title: action === "deny" ? `Deny ${of.value}?` : `Allow ${of.value}?`, danger: action === "deny", button: action === "deny" ? "Deny" : "Allow",
        text: action === "deny" ? "New requests to these numbers are refused until the time is over." : "New requests to these numbers pass, whatever is held. This can cost money.",
      });
      if (!isSure) return;
      const made = await call("POST", "ops/defence/overrides", { ...numbers(of.value.trim()), action, for: time_.value.trim(), reason: reason.value });
      announce(`${made.target}: ${made.action === "deny" ? "denied" : "allowed"}.`);
      element.reset();
      await read();
    });
  };
  const remove = (given, button) => act(button, place, async () => {
    const isSure = await confirmed({ title: `Remove the override of ${given}?`, button: "Remove", text: "The defence decides about these numbers again." });
    if (!isSure) return;
    const removed = await call("POST", "ops/defence/overrides/remove", numbers(given));
    announce(`There is no override of ${removed.target} any more.`);
    element.reset();
    await read();
  });
  deny.addEventListener("click", () => set("deny"));
  allow.addEventListener("click", () => set("allow"));
  end.addEventListener("click", () => of.reportValidity() && remove(of.value.trim(), [deny, allow, end]));
  const element = h("form", { class: "explain", submit: (event) => event.preventDefault() },
    h("div", null, h("label", { for: "override-of" }, "Country, first digits, or one number"), of,
      h("p", { id: "override-hint", class: "hint" }, "LV, +37120, or a whole number, which is shown masked.")),
    h("div", null, h("label", { for: "override-for" }, "For (30m, 12h or 7d)"), time_),
    h("div", null, h("label", { for: "override-reason" }, "Reason, shown to other operators"), reason),
    place, h("div", { class: "actions" }, deny, allow, end));
  const fill = (name) => {
    of.value = name;
    reason.focus();
    element.scrollIntoView({ block: "nearest" });
  };
  return { element, fill, remove };
}
