// Dead letters: the list, a replay after a dry run, and removal.

import { call } from "./api.js";
import { act, announce, badge, card, confirmed, count, duration, empty, h, loading, plural, sentence, time, words } from "./draw.js";
import { renew } from "./live.js";

export const deadLetters = {
  id: "dead-letters",
  title: "Dead letters",
  count: ({ dead_letters }) => (dead_letters > 0 ? { kind: "warning", text: count(dead_letters) } : null),
  mount(root, { go }) {
    const desk = new Desk(root, go);
    desk.read();
    return () => desk.end();
  },
};

class Desk {
  constructor(root, go) {
    Object.assign(this, { go, rows: [], chosen: new Set(), checked: null, force: false, isOver: false });
    this.list = h("div", { class: "place" }, loading());
    this.place = h("div", { class: "place" });
    this.outcome = h("div", { class: "place" });
    this.bar = h("div", { class: "toolbar" });
    this.plan = h("div", { class: "place", "aria-live": "polite" });
    this.again = h("button", { type: "button", class: "quiet", click: () => this.read() }, "Read again");
    root.append(this.outcome, card("Messages that could not be handled",
      h("p", { class: "hint" }, "Their requests wait here until someone replays or drops them. Reading hides them from others for a moment."),
      this.bar, this.place, this.plan, this.list));
  }

  end() {
    this.isOver = true;
  }

  read() {
    return act(this.again, this.place, async () => {
      this.forgetCheck();
      const { dead_letters, more } = await call("GET", "ops/dead-letters").catch((error) => {
        this.list.replaceChildren();
        throw error;
      });
      if (this.isOver) return;
      this.rows = dead_letters;
      this.chosen = new Set(dead_letters.map((row) => row.id).filter((id) => this.chosen.has(id)));
      this.drawList(more);
      this.drawBar();
    });
  }

  drawList(more) {
    if (this.rows.length === 0) return this.list.replaceChildren(empty("No dead letters. All messages were handled."));
    this.list.replaceChildren(h("ul", { class: "letters" }, this.rows.map((row) => this.letter(row))),
      more ? h("p", { class: "hint" }, "There are more: these are the oldest.") : "");
  }

  letter(row) {
    const choose = (event) => {
      if (event.target.checked) this.chosen.add(row.id);
      else this.chosen.delete(row.id);
      this.forgetCheck();
      this.drawBar();
    };
    const body = row.by === "broker" ? "in clear" : row.sealed ? (row.code_removed ? "encrypted, without the caller’s own code" : "encrypted") : "not kept";
    const facts = [
      ["Dead-lettered by", row.by], ["At", row.at && time(row.at)], ["Error", row.error && sentence(row.error)], ["Queue", row.queue],
      ["Ended as", row.status], ["Requested at", row.requested_at && time(row.requested_at)], ["Returns", row.delivery_count], ["Reads", row.looks],
      ["Correlation id", row.correlation_id], ["Body", `${count(row.bytes)} bytes, ${body}`], ["Excerpt", h("code", { class: "excerpt" }, row.excerpt || "empty")],
    ].filter(([, value]) => value !== undefined && value !== null && value !== "");
    return h("li", { "data-id": row.id },
      h("div", { class: "letter" },
        h("input", { type: "checkbox", id: `letter-${row.id}`, checked: this.chosen.has(row.id), change: choose }),
        h("label", { for: `letter-${row.id}` },
          h("b", null, row.request_id ?? "no request id"),
          h("small", null, h("code", null, row.id), row.age_seconds === undefined ? "" : ` · ${duration(row.age_seconds)} ago`)),
        badge(words(row.reason), "warning")),
      h("p", { class: "result" }),
      h("details", null, h("summary", null, "Details"),
        h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]))));
  }

  drawBar() {
    const all = this.rows.length > 0 && this.chosen.size === this.rows.length;
    const nothing = this.chosen.size === 0;
    this.check = h("button", { type: "button", class: "primary", click: () => this.dryRun(), "aria-disabled": nothing && "true" },
      nothing ? "Check a replay" : `Check a replay of ${count(this.chosen.size)}`);
    this.dropButton = h("button", { type: "button", class: "quiet danger", click: () => this.drop(), "aria-disabled": nothing && "true" }, "Drop…");
    const toggle = () => {
      this.chosen = new Set(all ? [] : this.rows.map((row) => row.id));
      for (const box of this.list.querySelectorAll("input[type=checkbox]")) box.checked = !all;
      this.forgetCheck();
      this.drawBar();
      this.bar.querySelector("button").focus();
    };
    const choose = h("button", { type: "button", class: "quiet", click: toggle }, all ? "Choose none" : "Choose all");
    this.bar.replaceChildren(...(this.rows.length > 0 ? [choose, this.check, this.dropButton, this.again] : [this.again]));
  }

  /** A check is of one choice: another choice needs another one. */
  forgetCheck() {
    this.force = false;
    this.forgetPlan();
  }

  forgetPlan() {
    this.checked = null;
    this.plan.replaceChildren();
    for (const place of this.list.querySelectorAll(".result")) place.replaceChildren();
  }

  /** The plan before it goes first: its button is for another answer. */
  dryRun() {
    const ids = [...this.chosen];
    const force = this.force;
    this.forgetPlan();
    return act(this.check, this.place, async () => {
      const { results } = await call("POST", "ops/dead-letters/replay", { ids, dry_run: true, force });
      if (this.isOver || force !== this.force || ids.length !== this.chosen.size || !ids.every((id) => this.chosen.has(id))) return;
      this.checked = results;
      this.drawResults(results);
      this.drawPlan(force);
    });
  }

  drawResults(results) {
    for (const row of results) {
      const place = this.list.querySelector(`[data-id="${CSS.escape(row.id)}"] .result`);
      place?.replaceChildren(...RESULTS[row.result](row));
    }
  }

  drawPlan(isForced) {
    const ids = this.checked.filter((row) => row.result === "would_replay").map((row) => row.id);
    const refused = this.checked.filter((row) => row.result === "refused");
    const forceable = refused.filter((row) => row.can_be_forced).length;
    const replay = h("button", { type: "button", class: "primary", click: () => this.replay(ids, isForced, replay) }, `Replay ${count(ids.length)}`);
    const force = h("input", { type: "checkbox", id: "force", checked: isForced, change: async (event) => {
      this.force = event.target.checked;
      await this.dryRun();
      if (document.activeElement === document.body) (document.getElementById("force") ?? this.check).focus();
    } });
    this.plan.replaceChildren(h("div", { class: "plan" },
      h("p", null, h("b", null, "Dry run: "), `${plural(ids.length, "request")} would be published again`,
        refused.length > 0 ? `, ${plural(refused.length, "request")} not.` : ".", " Nothing has changed yet."),
      (forceable > 0 || isForced) && h("p", { class: "force" }, force, h("label", { for: "force" },
        "Also those that have expired, were sent or may have been sent: people may get a second message.")),
      ids.length > 0 && replay));
  }

  replay(ids, force, button) {
    return act(button, this.place, async () => {
      const isSure = await confirmed({
        title: `Replay ${plural(ids.length, "request")}?`, button: "Replay", danger: force,
        text: "They are published again under new ids, and count against all limits. The dead letters are removed." +
          (force ? " People may get a second message." : ""),
      });
      if (!isSure) return;
      await this.apply("ops/dead-letters/replay", { ids, dry_run: false, force });
    });
  }

  drop() {
    return act(this.dropButton, this.place, async () => {
      const ids = [...this.chosen];
      const isSure = await confirmed({
        title: `Drop ${plural(ids.length, "dead letter")} for good?`, button: "Drop for good", danger: true,
        text: "Their messages are lost. Nothing is sent, and no result is published for them.",
      });
      if (isSure) await this.apply("ops/dead-letters/drop", { ids, dry_run: false });
    });
  }

  async apply(path, body) {
    const { results } = await call("POST", path, body);
    if (this.isOver) return;
    const done = results.filter((row) => ["replayed", "dropped"].includes(row.result));
    const verb = path.endsWith("drop") ? "dropped" : "replayed";
    const explain = (id) => h("button", { type: "button", class: "plain id", click: () => this.go("people", { request: id }) }, id);
    this.outcome.replaceChildren(h("section", { class: "card done", "aria-label": "Last act" },
      h("h2", { tabindex: "-1" }, `${plural(done.length, "dead letter")} ${verb}`),
      h("ul", { class: "results" }, results.map((row) => h("li", null, h("code", null, row.id), " ", RESULTS[row.result](row),
        row.result === "replayed" ? [" · ", explain(row.new_request_id)] : null)))));
    this.outcome.querySelector("h2").focus();
    announce(`${plural(done.length, "dead letter")} ${verb}.`);
    await Promise.all([this.read(), renew()]);
  }
}

const RESULTS = {
  would_replay: (row) => [badge("would be replayed", "good"), ` as ${row.new_request_id}`],
  would_drop: () => [badge("would be dropped", "warning")],
  replayed: (row) => [badge("replayed", "good"), ` as ${row.new_request_id}`],
  dropped: () => [badge("dropped", "")],
  refused: (row) => [badge("refused", "wrong"), ` ${sentence(row.why)}`],
  not_found: () => [badge("not found", "warning"), " It may have been replayed or dropped meanwhile."],
  failed: (row) => [badge("failed", "wrong"), ` ${sentence(row.why ?? "The broker failed")}`],
};
