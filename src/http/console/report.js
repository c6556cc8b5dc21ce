// A report that is read when it is shown, and again when its choices change.

import { call } from "./api.js";
import { act, card, h, loading, problem, segments, sentence } from "./draw.js";

export const TIMES = [["2h", "2 hours"], ["1d", "Day"], ["7d", "7 days"], ["15d", "15 days"]];

/**
 * A card with choices above a place. `choices` have a `name`, a `label`, `options` and a first `value`; `path` makes the path of the
 * API from the chosen values, and `draw` elements from its answer. Returns the element, `read`, and the function that ends it.
 */
export function report({ title, hint, choices = [], path, draw }) {
  const chosen = Object.fromEntries(choices.map(({ name, value }) => [name, value]));
  const place = h("div", { class: "place report" }, loading());
  const failure = h("div", { class: "place" });
  let turn = 0;
  const read = async () => {
    const own = ++turn;
    try {
      const answer = await call("GET", path(chosen));
      if (own === turn) place.replaceChildren(...[draw(answer, chosen)].flat().filter(Boolean));
    } catch (error) {
      if (!("code" in error)) throw error;
      if (own === turn && error.code !== "left") place.replaceChildren(problem(sentence(error.message)));
    }
  };
  const again = h("button", { type: "button", class: "plain", click: () => act(again, failure, read) }, "Read again");
  const bar = h("div", { class: "choices" }, choices.map(({ name, label, options, value }) => segments(label, options, value, (next) => {
    chosen[name] = next;
    read();
  })), again);
  read();
  return { element: card(title, hint && h("p", { class: "hint" }, hint), bar, failure, place), read, end: () => turn++ };
}
