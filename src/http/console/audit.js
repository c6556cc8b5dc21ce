// The last acts of operators.

import { badge, empty, h, problem, sentence, table, time, words } from "./draw.js";
import { report } from "./report.js";

const TIMES = [["1d", "Day"], ["7d", "7 days"], ["15d", "15 days"]];
const STOPPING = new Set(["kill_switch_on", "suppress", "defence_deny", "drop_dead_letters", "forget"]);

export const audit = {
  id: "audit",
  title: "Audit",
  mount(root) {
    const shown = report({
      title: "The last acts",
      hint: "Of commands and of this console, at most 100. Longer: otpost audit list.",
      choices: [{ name: "since", label: "Time", options: TIMES, value: "1d" }],
      path: ({ since }) => `ops/audit?since=${since}`,
      draw,
    });
    root.append(shown.element);
    return shown.end;
  },
};

function draw({ acts, missing }) {
  const row = ({ at, act, result, by, client_ip, subject, reason, pending }) => [
    time(at),
    h("span", { class: "stack" }, badge(words(act), STOPPING.has(act) ? "warning" : ""), result === "begun" && !act.startsWith("look") && h("small", null, "begun")),
    h("span", { class: "stack" }, h("b", null, by ?? "–"), client_ip && h("small", null, client_ip)),
    subject ? h("code", null, subject) : "–",
    h("span", { class: "stack" }, reason ?? "–", pending && badge("not published yet", "warning")),
  ];
  return [
    missing && problem(`${sentence(missing)} There are more acts than these.`),
    acts.length === 0 ? empty("No act is recorded in this time.") : table("Acts, the newest first", ["at", "act", "by", "about", "reason"], acts.map(row)),
  ];
}
