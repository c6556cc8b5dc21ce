// The share of the sent codes that were verified, by group.

import { bar, count, duration, empty, h, table, time } from "./draw.js";
import { TIMES, report } from "./report.js";

const GROUPS = [["channel", "Channel"], ["country", "Country"], ["prefix", "Prefix"], ["block", "Block"], ["provider", "Provider"], ["sender", "Sender"]];
/** Below it a rate looks like pumping, or like codes that do not arrive. */
const LOW = 0.3;

export const conversion = {
  id: "conversion",
  title: "Conversion",
  mount(root) {
    const shown = report({
      title: "Codes that were verified",
      hint: "Of each group: the codes that were sent, and how many of them people typed. Blocks with fewer than five codes are among “other”.",
      choices: [
        { name: "by", label: "Groups", options: GROUPS, value: "country" },
        { name: "since", label: "Time", options: TIMES, value: "2h" },
      ],
      path: ({ by, since }) => `sms/conversion?by=${by}&since=${since}&limit=50`,
      draw,
    });
    root.append(shown.element);
    return shown.end;
  },
};

function draw({ by, from, until, code_life, rows, total }) {
  const time_ = h("p", { class: "hint" }, "Sent from ", time(from), " to ", time(until), `; a code lives for ${duration(code_life)}.`);
  if (rows.length === 0) return [time_, empty("No code was sent.")];
  const cells = ({ name, sent, verified, unverified, pending, rate }, at) =>
    [h("b", { class: at === rows.length && "total" }, name), count(sent), count(verified), count(unverified), count(pending), rateOf(rate)];
  return [time_, table(`Codes by ${by}`, [by, "sent", "verified", "not verified", "pending", "rate"], [...rows, total].map(cells))];
}

function rateOf(rate) {
  if (rate === undefined) return h("span", { class: "soft" }, "too young");
  return h("span", { class: "meter" }, h("span", null, `${(rate * 100).toFixed(1)} %`), bar(rate, rate < LOW ? "wrong" : "good"));
}
