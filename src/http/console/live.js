// The status, read every few seconds while the tab is visible, and the points of the sparklines.

import { ApiError, call, isSignedIn } from "./api.js";

const EVERY_MS = 5_000;
/** After a longer pause a line has a gap. */
const GAP_MS = 3 * EVERY_MS;
const KEPT_MS = 10 * 60_000;

/** `status` is the last one, of the time `at`. `fault` is why there is no newer one. */
export const live = { status: null, at: 0, fault: null };

const points = new Map();
const listeners = new Set();
let timer = 0, reading = null;

/** Calls `listener` at each change. Returns the function that ends it. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function forget() {
  clearTimeout(timer);
  reading = null;
  points.clear();
  Object.assign(live, { status: null, at: 0, fault: null });
}

/** Reads the status now, and again and again. Concurrent callers share one reading. */
export function refresh() {
  if (reading) return reading;
  const own = read().finally(() => {
    if (reading === own) reading = null;
  });
  reading = own;
  return own;
}

/** After an act: a reading that began before it does not show it. */
export async function renew() {
  await reading;
  return refresh();
}

async function read() {
  clearTimeout(timer);
  try {
    const status = await call("GET", "ops/overview");
    Object.assign(live, { status, at: Date.now(), fault: null });
    remember(status, live.at);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "left") return;
    live.fault = error;
  }
  for (const listener of listeners) listener();
  clearTimeout(timer);
  if (isSignedIn() && !document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && isSignedIn()) refresh();
});

/** The points of a line: `{ at, value }`, where a `value` of null is a gap. */
export const line = (channel, name) => points.get(`${channel} ${name}`) ?? [];

function remember(status, at) {
  for (const { channel, rate, handled, provider } of status.traffic ?? []) {
    const queue = status.queues?.find((queue) => queue.channel === channel);
    add(channel, "rate", at, rate);
    add(channel, "handled", at, handled.p95_ms);
    add(channel, "provider", at, provider.p95_ms);
    add(channel, "waiting", at, queue?.ready);
  }
}

function add(channel, name, at, value) {
  const key = `${channel} ${name}`;
  const kept = (points.get(key) ?? []).filter((point) => at - point.at <= KEPT_MS);
  const last = kept.at(-1);
  if (last && at - last.at > GAP_MS) kept.push({ at: last.at + 1, value: null });
  points.set(key, [...kept, { at, value: value ?? null }]);
}
