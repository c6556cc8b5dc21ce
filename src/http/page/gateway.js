// The gateway's API, as whoever is logged in.

const ANSWER_WITHIN_MS = 15000;

/** An answer that is no success, or none at all. */
export class Refusal extends Error {
  constructor(code, answer = {}) {
    super(code);
    Object.assign(this, { code, request: answer.request_id });
    Object.assign(this, { attempts: answer.attempts_remaining, wait: answer.retry_after });
  }
}

/** How far the gateway's clock is ahead of this one, in ms; within a second. */
let ahead = 0;

/** A time of the gateway's by the clock of this machine; 0 for none. */
export const hereAt = (time) => Date.parse(time) - ahead || 0;

async function call(method, path, body, headers = {}) {
  const json = body && { body: JSON.stringify(body) };
  if (body) headers = { "Content-Type": "application/json", ...headers };
  let response, answer;
  try {
    response = await fetch(path, { method, headers, ...json, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    ahead = Date.parse(response.headers.get("date")) - Date.now() || 0;
    answer = JSON.parse((await response.text()) || "{}");
  } catch (error) {
    if (error instanceof SyntaxError) throw new Refusal(`HTTP ${response.status}`);
    throw new Refusal(error.name === "TimeoutError" ? "timed_out" : "offline");
  }
  if (!response.ok) throw new Refusal(answer.code ?? `HTTP ${response.status}`, answer);
  return answer;
}

let token = null;

/** Asks as a person. A token is for an address and a language, and another is got where one has expired. */
export async function asPerson(person, method, path, body, headers = {}) {
  const whom = JSON.stringify(person);
  for (const last of [false, true]) {
    if (token?.whom !== whom) token = { whom, ...(await call("POST", "/dev/token", person)) };
    try {
      const bearer = { Authorization: `Bearer ${token.token}` };
      return await call(method, `/api/v1/auth/${path}`, body, { ...headers, ...bearer });
    } catch (refusal) {
      if (refusal.code !== "invalid_token" || last) throw refusal;
      token = null;
    }
  }
}
