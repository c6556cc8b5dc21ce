// The state of everything: problems, traffic, outcomes, queues, servers and workers.

import { badge, card, channelName, count, empty, h, millis, plural, s, sentence, sparkline, table, update, words } from "./draw.js";
import { line, live, subscribe } from "./live.js";
import { workers } from "./workers.js";

/** Kept while the console is open. */
let channel = "sms";

export const overview = {
  id: "overview",
  title: "Overview",
  count({ problems }) {
    if (problems.length === 0) return null;
    const kind = problems.some((problem) => problem.severity === "error") ? "wrong" : "warning";
    return { kind, text: problems.length };
  },
  mount(root, { go }) {
    const places = ["problems", "tiles", "outcomes", "queues", "servers-place", "workers", "keys"].map((name) => h("div", { class: `place ${name}` }));
    const [problems, tiles, outcomes, queues, servers, running, keys] = places;
    const chooser = h("div", { class: "segments", role: "group", "aria-label": "Channel" });
    root.append(problems, chooser, tiles, h("div", { class: "trio" }, outcomes, queues, servers), running, keys);
    const draw = () => {
      const { status } = live;
      if (!status) return;
      update(problems, status.problems, drawProblems(go));
      drawChooser(chooser, status, draw);
      tiles.replaceChildren(...drawTiles(status));
      const traffic = status.traffic?.find((row) => row.channel === channel);
      update(outcomes, [traffic?.ended ?? null, status.limits_hit ?? null], drawOutcomes);
      update(queues, [status.queues ?? null, status.delayed ?? null, status.dead_letters ?? null, status.kill_switch ?? null], drawQueues);
      update(servers, [status.health, status.email], drawServers);
      update(running, status.processes ?? null, workers);
      update(keys, status.keys ?? null, drawKeys);
    };
    draw();
    return subscribe(draw);
  },
};

const icon = (path) => s("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, s("path", { d: path }));
const CHECK = "M4 10.5 8.5 15 16 6", CROSS = "M10 4.5v7M10 15v.5";

const drawProblems = (go) => (problems) => {
  if (problems.length === 0) return h("p", { class: "well" }, icon(CHECK), "All is well.");
  const row = ({ severity, what, detail }) => {
    const isError = severity === "error";
    const more = what === "dead_letters" ? ["dead-letters", "Look at them"] : what === "kill_switch" ? ["stop", "Open the switch"] : null;
    return h("li", { class: isError ? "wrong" : "warning" }, icon(CROSS),
      h("span", null, h("b", null, isError ? "Error: " : "Warning: "), sentence(detail.replace(/: otpost dead-letters list$/, "").replace(/^sms\b/, "SMS"))),
      more && h("button", { type: "button", class: "plain", click: () => go(more[0]) }, more[1]));
  };
  return h("ul", { class: "problems", "aria-label": "Problems" }, problems.map(row));
};

/** Only where both channels are of use. */
function drawChooser(chooser, status, draw) {
  const used = (status.traffic ?? []).map((row) => row.channel)
    .filter((name) => name === "sms" ? status.sms_enabled : status.email.enabled);
  if (!used.includes(channel)) channel = used[0] ?? "sms";
  chooser.hidden = used.length < 2;
  update(chooser, [used, channel], () => used.map((name) => h("button", {
    type: "button", "aria-pressed": String(name === channel),
    click: () => {
      channel = name;
      draw();
      chooser.querySelector('[aria-pressed="true"]').focus();
    },
  }, channelName(name))));
}

function drawTiles(status) {
  const traffic = status.traffic?.find((row) => row.channel === channel);
  const queue = status.queues?.find((queue) => queue.channel === channel);
  const name = channelName(channel);
  const unit = (value, what) => value === undefined ? null : h("span", null, value, h("small", null, what));
  const half = (durations) => durations?.p50_ms === undefined ? "none in the last minute" : `half within ${millis(durations.p50_ms)}`;
  const within = (durations) => durations?.p95_ms === undefined ? null : h("span", null, millis(durations.p95_ms));
  const perSecond = (value) => `${count(value)} a second`;
  return [
    tile("Requests ended", unit(traffic && count(traffic.rate), "a second"), `${name}, all workers`, "rate", perSecond),
    tile("95 % handled within", within(traffic?.handled), half(traffic?.handled), "handled", millis),
    tile("95 % of provider answers", within(traffic?.provider), half(traffic?.provider), "provider", millis),
    tile("Waiting in the queue", queue && h("span", null, count(queue.ready)),
      queue ? `${plural(queue.consumers, "consumer")}` : "RabbitMQ does not answer", "waiting", count),
  ];
}

function tile(title, value, note, name, format) {
  return h("section", { class: "tile card" }, h("h2", null, title),
    h("p", { class: "value" }, value ?? "–"), h("p", { class: "note" }, note), sparkline(line(channel, name), title, format));
}

const KINDS = { sent: "good", rejected: "calm", failed: "wrong", unknown: "warning" };

function drawOutcomes([ended, limits]) {
  const total = (ended ?? []).reduce((sum, row) => sum + row.count, 0);
  const bar = ({ status, reason, count: value }) => {
    const share = value / total;
    const name = reason ? `${status}: ${words(reason)}` : status;
    const drawn = s("svg", { class: `bar ${KINDS[status] ?? ""}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "track", width: 100, height: 6 }), s("rect", { class: "part", width: Math.max(0.6, share * 100), height: 6 }));
    return h("li", null, h("span", { class: "name" }, name), h("span", { class: "number" }, count(value)),
      h("span", { class: "share" }, share < 0.001 ? "< 0.1 %" : `${count(share * 100)} %`), drawn);
  };
  const hits = Object.entries(limits ?? {}).filter(([, value]) => value > 0);
  return card("Outcomes of the last ten minutes",
    ended === null ? empty("Redis does not answer.") : total === 0 ? empty("No request has ended.") : h("ul", { class: "bars" }, ended.map(bar)),
    h("h3", null, "Limits hit in the last hour"),
    hits.length === 0 ? empty(limits === null ? "Not known." : "None.")
      : h("p", { class: "badges" }, hits.map(([limit, value]) => badge(`${words(limit)} ${count(value)}`))));
}

const STATES = {
  up: ["up", "good"], down: ["down", "wrong"], refused: ["access refused", "wrong"], limited: ["limited access", "warning"],
  in_memory: ["in memory", ""], simulated: ["simulated", ""], not_configured: ["not checked here", ""], unknown: ["being checked", ""],
};

function drawQueues([queues, delayed, deadLetters, killSwitch]) {
  const rows = (queues ?? []).map(({ queue, ready, consumers }) => [h("code", null, queue), count(ready), count(consumers)]);
  return card("Queues",
    queues ? table("Queues", ["queue", "waiting", "consumers"], rows) : empty("RabbitMQ does not answer: the queues are not known."),
    h("ul", { class: "servers more" },
      h("li", null, h("span", null, "Delayed requests"), h("span", { class: "took" }), badge(delayed === null ? "not known" : count(delayed))),
      h("li", null, h("span", null, "Dead letters"), h("span", { class: "took" }),
        badge(deadLetters === null ? "not known" : count(deadLetters), deadLetters ? "warning" : "")),
      h("li", null, h("span", null, "Kill switch"), h("span", { class: "took" }),
        badge(killSwitch === null ? "not known" : killSwitch.on ? "on" : "off", killSwitch?.on ? "wrong" : ""))));
}

function drawServers([health, email]) {
  const servers = [["Redis", health.redis], ["RabbitMQ", health.rabbitmq], ["SMS provider", health.twilio]];
  if (email.health) servers.push(["E-mail provider", email.health]);
  const server = ([name, { state, ms, detail }]) => {
    const [text, kind] = STATES[state] ?? [state, ""];
    return h("li", null, h("span", null, name), h("span", { class: "took" }, ms === undefined ? "" : millis(ms)), badge(text, kind),
      detail && state !== "not_configured" ? h("small", null, sentence(detail)) : null);
  };
  return card("Servers", h("ul", { class: "servers" }, servers.map(server)));
}

function drawKeys(keys) {
  if (!keys?.some((key) => key.differs)) return null;
  const rows = keys.map((key) => [
    h("span", null, key.kid ? `${key.use} ${key.kid}` : key.use), h("code", null, key.fingerprint),
    [plural(key.workers, "worker"), `${key.http} http`, key.recorded ? "Redis" : null].filter(Boolean).join(", "),
    key.differs ? badge("differs", "wrong") : "same",
  ]);
  return card("Keys", table("Key fingerprints", ["key", "fingerprint", "seen at", "state"], rows));
}
