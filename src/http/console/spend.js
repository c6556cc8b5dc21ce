// The budgets, and what was spent on what.

import { badge, bar, card, count, empty, h, loading, table, time } from "./draw.js";
import { TIMES, report } from "./report.js";

const GROUPS = [["channel", "Channel"], ["country", "Country"], ["prefix", "Prefix"], ["provider", "Provider"], ["sender", "Sender"]];
/** Of a budget, as workers log it. */
const NEAR = 0.8;

export const spend = {
  id: "spend",
  title: "Spend",
  mount(root) {
    const budgets = h("div", { class: "place" }, loading());
    const shown = report({
      title: "What it was spent on",
      choices: [
        { name: "by", label: "Groups", options: GROUPS, value: "country" },
        { name: "since", label: "Time", options: TIMES, value: "1d" },
      ],
      path: ({ by, since }) => `sms/spend?by=${by}&since=${since}&limit=50`,
      draw: (answer) => {
        budgets.replaceChildren(drawBudgets(answer));
        return draw(answer);
      },
    });
    root.append(budgets, shown.element);
    return shown.end;
  },
};

function drawBudgets({ budgets, currency, is_estimate }) {
  const set = budgets.filter((budget) => budget.budget !== undefined);
  const hint = is_estimate ? "The prices are an estimate: PRICES_FILE is not set." : `Amounts are in ${currency}.`;
  if (set.length === 0) return card("Budgets", empty("No budget is set: nothing stops the spend of an hour or a day."), h("p", { class: "hint" }, hint));
  return card("Budgets", h("ul", { class: "bars budgets" }, set.map(drawBudget)), h("p", { class: "hint" }, hint));
}

function drawBudget({ period, budget, reserved, committed, left, until }) {
  const share = Number(budget) > 0 ? (Number(reserved) + Number(committed)) / Number(budget) : 1;
  const kind = share >= 1 ? "wrong" : share >= NEAR ? "warning" : "good";
  const state = share >= 1 ? badge("refuses new requests", "wrong") : share >= NEAR ? badge("nearly used up", "warning") : null;
  return h("li", null,
    h("span", { class: "name" }, period === "hour" ? "This hour" : "This day"),
    h("span", { class: "number" }, `${committed} of ${budget}`),
    h("span", { class: "share" }, `${Math.round(share * 100)} %`),
    bar(share, kind),
    h("small", null, state, state && " ", `${left} left, ${reserved} reserved for requests in progress; until `, time(until)));
}

function draw({ by, currency, from, until, days_before, rows, total, sample }) {
  const facts = h("p", { class: "hint" }, "From ", time(from), " to ", time(until), `, in ${currency}`,
    days_before ? `; “before” is the same time ${days_before === 1 ? "a day" : `${days_before} days`} earlier.` : ".");
  if (rows.length === 0) return [facts, empty("Nothing was spent.")];
  const most = Math.max(...rows.map((row) => Number(row.amount)));
  const cells = (row) => [
    h("b", { class: row === total && "total" }, row.name), count(row.messages),
    h("span", { class: "meter" }, h("span", null, row.amount), row === total ? null : bar(most > 0 ? Number(row.amount) / most : 0, grown(row) ? "wrong" : "good")),
    row.before === undefined ? "–" : h("span", null, row.before, " ", grown(row) && badge("doubled", "warning")),
  ];
  return [facts, table(`Amounts by ${by}`, [by, "messages", "amount", "before"], [...rows, total].map(cells)), drawSample(sample)];
}

const grown = ({ amount, before }) => before !== undefined && Number(amount) >= 1 && Number(amount) > 2 * Number(before);

function drawSample({ messages, expected, paid, deviation, other_currency }) {
  if (deviation === undefined && other_currency === 0) return null;
  const compared = deviation === undefined ? "" :
    `Twilio’s own price of ${count(messages)} sampled messages: ${paid}, where ${expected} was expected (${deviation > 0 ? "+" : ""}${deviation} %). `;
  const others = other_currency > 0 ? `${count(other_currency)} had a price in another currency.` : "";
  return h("p", { class: "hint" }, compared + others);
}
