// Calls the HTTP API of the gateway as the logged-in person.

const ANSWER_WITHIN_MS = 15000;

export const CHANNELS = {
  sms: { send: "send-verification-sms", verify: "verify-phone-otp", otp_type: "SMS" },
  email: { send: "send-verification-email", verify: "verify-email-otp", otp_type: "EMAIL" },
};
/** After these errors the code is of no use; the person needs another one. */
export const ENDS_A_CODE = ["code_expired", "code_used", "perhaps_verified", "no_pending_code", "too_many_attempts"];
/** After these errors it is unknown whether the code was checked. */
export const LOST_ANSWERS = ["offline", "timed_out", "provider_unavailable"];

/** An error response, or no response. */
export class ApiError extends Error {
  constructor(code, answer = {}) {
    super(code);
    Object.assign(this, { code, request: answer.request_id });
    Object.assign(this, { attempts: answer.attempts_remaining, wait: answer.retry_after });
  }
}

/** The lead of the gateway's clock over the local one in ms, precise to a second. */
let clockLead = 0;

/** Converts a time of the gateway to the local clock; 0 if there is none. */
export const toLocalTime = (time) => Date.parse(time) - clockLead || 0;

async function call(method, path, body, headers = {}) {
  const json = body && { body: JSON.stringify(body) };
  if (body) headers = { "Content-Type": "application/json", ...headers };
  let response, answer;
  try {
    response = await fetch(path, { method, headers, ...json, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    clockLead = Date.parse(response.headers.get("date")) - Date.now() || 0;
    answer = JSON.parse((await response.text()) || "{}");
  } catch (error) {
    if (error instanceof SyntaxError) throw new ApiError(`HTTP ${response.status}`);
    throw new ApiError(error.name === "TimeoutError" ? "timed_out" : "offline");
  }
  if (!response.ok) throw new ApiError(answer.code ?? `HTTP ${response.status}`, answer);
  return answer;
}

let token = null;

/** A token is for one person and language. */
async function tokenOf(person) {
  const owner = JSON.stringify(person);
  if (token?.owner !== owner) token = { owner, ...(await call("POST", "/dev/token", person)) };
  return token;
}

/** The masked `phone_number` and `email` of a person; null for an invalid one. */
export const maskedAddresses = async (person) => (await tokenOf(person)).to;

/** Calls the API as a person. The token is renewed when it has expired. */
export async function callAs(person, method, path, body, headers = {}) {
  for (const isRetry of [false, true]) {
    const bearer = { Authorization: `Bearer ${(await tokenOf(person)).token}` };
    try {
      return await call(method, `/api/v1/auth/${path}`, body, { ...headers, ...bearer });
    } catch (error) {
      if (error.code !== "invalid_token" || isRetry) throw error;
      token = null;
    }
  }
}
