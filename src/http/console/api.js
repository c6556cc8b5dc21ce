// Calls the API as an operator. The token is in this variable and nowhere else.

const ANSWER_WITHIN_MS = 12_000;

let token = "";
/** Grows with each sign-in and sign-out: an answer to an earlier session is dropped. */
let session = 0;

/** True if the text can be a token. */
export function signIn(text) {
  const given = text.trim().replace(/^Bearer\s+/i, "");
  if (!/^[\x21-\x7e]+$/.test(given)) return false;
  token = given;
  session++;
  return true;
}

export function signOut() {
  token = "";
  session++;
}

export const isSignedIn = () => token !== "";

/** `code` is that of the API; `lost` without an answer, `left` if the session has ended meanwhile. */
export class ApiError extends Error {
  constructor(code, detail, status = 0) {
    super(detail);
    Object.assign(this, { code, status });
  }

  /** The token is of no use any more. */
  get endsSession() {
    return this.status === 401 || this.code === "insufficient_scope";
  }
}

const LOST = "No answer came. Whether anything changed is not known: read it again.";

export async function call(method, path, body) {
  const own = session;
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(new URL(`../api/v1/${path}`, import.meta.url), {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      mode: "same-origin", credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    text = await response.text();
  } catch {
    throw new ApiError(own === session ? "lost" : "left", method === "GET" ? "No answer came." : LOST);
  }
  if (own !== session) throw new ApiError("left", "");
  const answer = parsed(text);
  if (response.ok && answer !== undefined) return answer;
  const detail = answer?.detail ?? `The server answered ${response.status}.`;
  throw new ApiError(answer?.code ?? "lost", detail, response.status);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
