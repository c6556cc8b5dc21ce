// Requests a code over RabbitMQ, and verifies the typed code over HTTP.
//
//   node send-and-verify.js YOUR_NUMBER

import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline/promises";
import { setTimeout as sleep } from "node:timers/promises";
import amqp from "amqplib";

const {
  AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2f",
  AMQP_PREFIX = "otpost",
  OTPOST_URL = "http://127.0.0.1:8080",
  OTPOST_TOKEN,
} = process.env;
const REPLY_TO = "amq.rabbitmq.reply-to"; // no queue to declare: replies come to this channel
const ANSWER_WITHIN_MS = 120_000; // an attempt in doubt is reconciled before it is answered
const REPEAT = "the same request_id may be published again, and sends nothing twice";

async function connect() {
  const { host } = URL.canParse(AMQP_URL) ? new URL(AMQP_URL) : {}; // not the whole URL: it holds a password
  if (!host) throw new Error("AMQP_URL is not a RabbitMQ URL");
  try {
    const broker = await amqp.connect(AMQP_URL, { timeout: 10_000 });
    broker.on("error", () => {}); // its channels close too, and report the error
    return broker;
  } catch {
    throw new Error(`RabbitMQ at ${host} cannot be reached, or refuses the login: set AMQP_URL`);
  }
}

/** Publishes one request and waits for its result; undefined if none came in time. */
async function askForCode(to) {
  const request_id = randomUUID(); // one per send: a repeated publish keeps it
  const request = JSON.stringify({ request_id, to, requested_at: new Date().toISOString() });
  const properties = {
    contentType: "application/json",
    persistent: true,
    mandatory: true,
    correlationId: request_id,
    replyTo: REPLY_TO,
  };
  const broker = await connect();
  const waiting = setTimeout(() => console.log("still waiting…"), 5000);
  try {
    const channel = await broker.createConfirmChannel();
    const result = new Promise((resolve, reject) => {
      const unroutable = new Error(`no queue takes requests: does otpost run with AMQP_PREFIX=${AMQP_PREFIX}?`);
      const lost = new Error(`RabbitMQ ended the connection, or did not accept the request: ${REPEAT}`);
      channel.on("return", () => reject(unroutable));
      channel.on("error", ({ code }) => reject(code === 404 ? unroutable : lost));
      channel.on("close", () => reject(lost));
      const onResult = (message) => {
        if (message?.properties.correlationId === request_id) resolve(JSON.parse(message.content));
      };
      channel.consume(REPLY_TO, onResult, { noAck: true }).catch(reject);
      const onConfirm = (error) => error && reject(lost);
      channel.publish(`${AMQP_PREFIX}.requests`, "send-sms", Buffer.from(request), properties, onConfirm);
    });
    return await Promise.race([result, sleep(ANSWER_WITHIN_MS, undefined, { ref: false })]);
  } finally {
    clearTimeout(waiting);
    await broker.close().catch(() => {}); // it may be closed already
  }
}

/** The next step of a caller after `rejected` or `failed`. */
function whatToDo({ code, retry_after }) {
  switch (code) {
    case "invalid_request":
      return "fix this program";
    case "invalid_recipient":
    case "landline":
      return "let the person give another number";
    case "rate_limited":
    case "cooldown":
    case "blocked":
      return `wait ${retry_after} s, then ask again with a new request_id`;
    case "expired":
    case "provider_unavailable":
      return "ask again with a new request_id, if the person still waits";
    case "provider_misconfigured":
    case "internal":
      return "report it to the operator of otpost";
    default:
      return "offer the person another way, and do not repeat it";
  }
}

/** The verdict on a code: `verified`, or a problem with its `status` and `code`. */
async function check(to, otp_code) {
  try {
    const answer = await fetch(`${OTPOST_URL.replace(/\/$/, "")}/api/v1/otp/verify`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${OTPOST_TOKEN}` },
      body: JSON.stringify({ to, otp_code }),
      signal: AbortSignal.timeout(15_000),
    });
    const verdict = await answer.json();
    if (verdict?.verified || (verdict?.status && verdict.code)) return verdict;
  } catch {
    // As below.
  }
  // No otpost answered: the verdict is unknown.
  return { status: 503, code: `no answer of otpost at ${OTPOST_URL}` };
}

/** The next step after a problem: may the person type again, and the text to show. */
function whatNext({ status, code, attempts_remaining: left, retry_after: wait }) {
  if (status === 503) return [true, "try again with the same code"];
  if (status === 401 || status === 403) return [false, "fix the token, OTPOST_TOKEN"];
  switch (code) {
    case "invalid_request":
      return [true, "type it again"]; // it was not a code; no attempt was counted
    case "wrong_code":
      return left ? [true, `attempts left: ${left}`] : [false, "ask for a new code"];
    case "too_many_attempts":
      return [false, wait ? `wait ${wait} s, then ask for a new code` : "ask for a new code"];
    case "no_pending_code":
    case "code_used":
    case "code_expired":
      return [false, "ask for a new code"];
    default:
      return [false, "report it to the operator of otpost"];
  }
}

/** Reads codes until one is right or no other can be. */
async function verify(to) {
  process.stdout.write("Code: ");
  for await (const line of createInterface({ input: process.stdin })) {
    const verdict = await check(to, line.replace(/\s/g, "")); // people type `123 456`
    if (verdict.verified) {
      console.log(`verified: ${verdict.to}`);
      return true;
    }
    const [again, then] = whatNext(verdict);
    console.log(`${verdict.code}: ${then}`);
    if (!again) return false;
    if (verdict.status === 503) await sleep((verdict.retry_after ?? 2) * 1000);
    process.stdout.write("Code: ");
  }
  throw new Error("no code was typed");
}

async function main([to, ...more]) {
  if (!to || more.length) throw new Error("usage: node send-and-verify.js NUMBER");
  if (!OTPOST_TOKEN) throw new Error("OTPOST_TOKEN is not set: it must be a token whose scope holds otp:verify");
  const result = await askForCode(to);
  switch (result?.status) {
    case undefined:
      console.log(`no result yet: ${REPEAT}`);
      return false;
    case "sent":
      console.log(`sent to ${result.to}: valid until ${result.expires_at}`);
      return verify(to);
    case "unknown":
      console.log("unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown");
      return verify(to);
    default:
      console.log(`${result.status}, ${result.error.code}: ${whatToDo(result.error)}`);
      return false;
  }
}

main(process.argv.slice(2)).then(
  (verified) => process.exit(verified ? 0 : 1),
  (trouble) => {
    console.error(trouble.message);
    process.exit(1);
  },
);
