// The kill switch: stops all sending, or resumes it.

import { call } from "./api.js";
import { act, announce, confirmed, h, time, update } from "./draw.js";
import { live, renew, subscribe } from "./live.js";

export const stop = {
  id: "stop",
  title: "Stop",
  count: ({ kill_switch }) => (kill_switch?.on ? { kind: "wrong", text: "on" } : null),
  mount(root) {
    const state = h("div", { class: "place" });
    root.append(state);
    const draw = () => live.status && update(state, live.status.kill_switch ?? "unknown", drawSwitch);
    draw();
    return subscribe(draw);
  },
};

function drawSwitch(killSwitch) {
  if (killSwitch === "unknown") return h("section", { class: "card" }, h("p", null, "Redis does not answer: the switch cannot be read."));
  return killSwitch.on ? stopped(killSwitch) : sending();
}

function sending() {
  const reason = h("input", { id: "reason", maxlength: "200", required: true, autocomplete: "off", "aria-describedby": "reason-hint" });
  const button = h("button", { class: "primary danger" }, "Stop all sending");
  const place = h("div", { class: "place" });
  const submit = (event) => {
    event.preventDefault();
    act(button, place, async () => {
      const isSure = await confirmed({
        title: "Stop all sending?", danger: true, button: "Stop all sending",
        text: "Every worker stops within a second. Requests wait in the queue, and those that get too late end without a message. Codes are still checked.",
      });
      if (!isSure) return;
      await call("POST", "ops/kill-switch/on", { reason: reason.value });
      await renew();
      announce("The kill switch is on: nothing is sent.");
      focusTitle();
    });
  };
  return h("section", { class: "card switch", "aria-labelledby": "switch-title" },
    h("h2", { id: "switch-title", class: "big" }, h("i", { class: "lamp good", "aria-hidden": "true" }), "Messages are sent"),
    h("p", { class: "lead" }, "The kill switch is off. Turned on, it stops all sending in every worker, of SMS and e-mail, until it is turned off."),
    h("form", { submit },
      h("label", { for: "reason" }, "Reason"), reason,
      h("p", { id: "reason-hint", class: "hint" }, "Other operators see it. Phone numbers and addresses in it are masked."),
      place, button));
}

function stopped({ since, reason }) {
  const button = h("button", { type: "button", class: "primary" }, "Resume sending");
  const place = h("div", { class: "place" });
  button.addEventListener("click", () => act(button, place, async () => {
    const isSure = await confirmed({
      title: "Resume sending?", button: "Resume sending",
      text: "Every worker sends again within a second, first the requests that wait.",
    });
    if (!isSure) return;
    await call("POST", "ops/kill-switch/off", {});
    await renew();
    announce("The kill switch is off: messages are sent.");
    focusTitle();
  }));
  return h("section", { class: "card switch is-on", "aria-labelledby": "switch-title" },
    h("h2", { id: "switch-title", class: "big" }, h("i", { class: "lamp wrong", "aria-hidden": "true" }), "Nothing is sent"),
    h("dl", { class: "facts" },
      h("dt", null, "Since"), h("dd", null, since ? time(since) : "just now"),
      h("dt", null, "Reason"), h("dd", null, reason ?? "none given")),
    place, button);
}

const focusTitle = () => document.getElementById("title")?.focus();
