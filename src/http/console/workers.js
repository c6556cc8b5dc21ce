// The workers that report: their gates, breakers, handlers and senders.

import { badge, card, channelName, count, duration, empty, h, millis, table, words } from "./draw.js";

/** From then on a process counts as gone. */
const SILENT_MS = 10_000;
const SHOWN_MAX = 60;
const COLUMNS = ["process", "version", "up", "gate", "breaker", "a second", "handlers", "sends", "senders", "oldest taken"];

export function workers(processes) {
  if (processes === null) return card("Workers", empty("Redis does not answer: the workers are not known."));
  const reporting = processes.filter((process) => process.channel);
  if (reporting.length === 0) return card("Workers", empty("No worker reports. Requests wait in the queue."));
  const order = reporting.toSorted((one, other) => rank(one) - rank(other) || one.channel.localeCompare(other.channel) * -1 || one.id.localeCompare(other.id));
  return card("Workers", table("Workers, those that do not send first", COLUMNS, order.slice(0, SHOWN_MAX).map(row)),
    order.length > SHOWN_MAX && h("p", { class: "note" }, `and ${count(order.length - SHOWN_MAX)} more`));
}

const rank = (worker) => (worker.silent_ms >= SILENT_MS ? 1 : worker.closed_by ? 0 : 2);

function row(worker) {
  const isSilent = worker.silent_ms >= SILENT_MS;
  return [
    h("span", { class: "who" }, h("b", null, `${channelName(worker.channel)} ${worker.role}`), h("code", null, worker.id.slice(0, 8))),
    worker.version,
    isSilent ? badge(`silent for ${duration(worker.silent_ms / 1_000)}`, "warning") : duration(worker.uptime),
    gate(worker),
    breakers(worker),
    count(worker.rate),
    `${worker.in_flight}/${worker.handlers_max}`,
    `${worker.concurrency_in_use}/${worker.concurrency_limit}`,
    worker.senders_suspended > 0 ? badge(`${worker.senders_suspended} of ${worker.senders} suspended`, "warning") : count(worker.senders),
    worker.oldest_taken_ms === undefined ? "none" : millis(worker.oldest_taken_ms),
  ];
}

function gate({ closed_by, draining }) {
  if (closed_by) return badge(`closed: ${words(closed_by)}`, "wrong");
  return draining ? badge("draining", "warning") : badge("open", "good");
}

/** Of several providers those that are shut. */
function breakers({ breaker: of_all, providers = [] }) {
  const shut = providers.filter((one) => one.breaker.state !== "closed");
  if (shut.length === 0) return breaker(of_all);
  return h("span", { class: "stack" }, ...shut.flatMap((one) => [h("small", null, one.provider), breaker(one.breaker)]));
}

function breaker({ state, cause, provider_code }) {
  if (state === "closed") return "closed";
  const why = provider_code ? `provider’s number ${provider_code}` : cause ? words(cause) : "";
  return h("span", { class: "stack" }, badge(words(state), state === "open" ? "wrong" : "warning"), why && h("small", null, why));
}
