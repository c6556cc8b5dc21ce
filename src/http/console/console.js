// Opens the console with a token, and shows one view at a time.

import { isSignedIn, signIn, signOut } from "./api.js";
import { audit } from "./audit.js";
import { conversion } from "./conversion.js";
import { deadLetters } from "./dead-letters.js";
import { defence } from "./defence.js";
import { announce, closeDialog, clockTime, h, sentence } from "./draw.js";
import { forget, live, refresh, subscribe } from "./live.js";
import { overview } from "./overview.js";
import { people } from "./people.js";
import { spend } from "./spend.js";
import { stop } from "./stop.js";

/** The views in the order of the navigation. Another one is another entry: `id`, `title`, `count?`, and `mount`. */
const VIEWS = [overview, conversion, spend, defence, stop, people, deadLetters, audit];

const $ = (id) => document.getElementById(id);
let shown = null, unmount = null;

const wanted = () => VIEWS.find((view) => `#${view.id}` === location.hash) ?? VIEWS[0];

/** Shows a view, with a start value of its own. */
function go(id, start) {
  const view = VIEWS.find((view) => view.id === id);
  if (location.hash !== `#${id}`) history.pushState(null, "", `#${id}`);
  show(view, start);
}

function show(view, start) {
  unmount?.();
  shown = view;
  document.title = `${view.title} – otpost console`;
  const title = h("h1", { id: "title", tabindex: "-1" }, view.title);
  const body = h("div", { class: `view ${view.id}` });
  $("view").replaceChildren(title, body);
  unmount = view.mount(body, { go, start }) ?? null;
  drawNavigation();
  title.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function drawNavigation() {
  const link = (view) => {
    const more = live.status && view.count?.(live.status);
    return h("a", { href: `#${view.id}`, "aria-current": view === shown && "page" },
      view.title, more ? h("span", { class: `count ${more.kind}` }, more.text) : null);
  };
  const key = JSON.stringify([shown?.id, VIEWS.map((view) => live.status && view.count?.(live.status))]);
  if ($("nav").drawn === key) return;
  $("nav").drawn = key;
  const focused = $("nav").contains(document.activeElement) && document.activeElement.getAttribute("href");
  $("nav").replaceChildren(...VIEWS.map(link));
  if (focused) $("nav").querySelector(`[href="${focused}"]`)?.focus();
}

// --- the session ---

function drawSession() {
  const isIn = isSignedIn() && live.status !== null;
  $("door").hidden = isIn;
  $("nav").hidden = $("session").hidden = !isIn;
  if (!isIn) return;
  const lost = live.fault;
  $("pulse").className = `pulse ${lost ? "is-lost" : ""}`;
  $("pulse").replaceChildren(...(lost ? ["not connected"] : [h("b", null, "live ·"), clockTime(live.at)]));
  $("lost").hidden = !lost;
  $("main").classList.toggle("stale", Boolean(lost));
  const text = lost ? `${sentence(lost.message)} This is the state of ${clockTime(live.at)}. Trying again.` : "";
  if ($("lost").textContent !== text) $("lost").textContent = text;
}

function leave(why) {
  signOut();
  forget();
  closeDialog();
  unmount?.();
  shown = unmount = null;
  $("view").replaceChildren();
  $("lost").hidden = true;
  $("main").classList.remove("stale");
  document.title = "otpost console";
  $("door-problem").textContent = why;
  drawSession();
  $("token").focus();
}

$("door-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const enter = $("enter");
  if (enter.getAttribute("aria-disabled") === "true") return;
  $("door-problem").textContent = "";
  const isToken = signIn($("token").value);
  $("token").value = "";
  if (!isToken) {
    $("door-problem").textContent = "This is no token: paste all of it, and nothing else.";
    return;
  }
  enter.setAttribute("aria-disabled", "true");
  enter.textContent = "Opening…";
  await refresh();
  enter.removeAttribute("aria-disabled");
  enter.textContent = "Open the console";
  if (live.status) {
    show(wanted());
  } else if (live.fault) {
    leave(sentence(live.fault.message));
  }
});

$("leave").addEventListener("click", () => {
  leave("");
  announce("Signed out. The token is forgotten.");
});

subscribe(() => {
  if (live.status && live.fault?.endsSession) return leave(`You were signed out: ${live.fault.message}.`);
  drawSession();
  if (shown) drawNavigation();
});

addEventListener("popstate", () => isSignedIn() && live.status && show(wanted()));
addEventListener("hashchange", () => isSignedIn() && live.status && wanted() !== shown && show(wanted()));
$("nav").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  go(link.hash.slice(1));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  ($("title") ?? $("door-title")).focus();
});
// A page from the browser's cache may show another session.
addEventListener("pageshow", (event) => event.persisted && location.reload());

drawSession();
$("token").focus();
