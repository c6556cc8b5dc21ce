// Asks otpost for a code over RabbitMQ, and checks over HTTP what the person types.
//
//   node send-and-verify.js +573001234567

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
const REPLY_TO = "amq.rabbitmq.reply-to"; // no queue to declare: replies come to this very channel
const ANSWER_WITHIN_MS = 120_000; // a send in doubt is looked into before it is answered

/** Publishes one request and waits for its result; undefined if none came in time. */
async function askForCode(to) {
  const request_id = randomUUID(); // one a send: a retry of publishing keeps it
  const body = JSON.stringify({ request_id, to, requested_at: new Date().toISOString() });
  const connection = await amqp.connect(AMQP_URL);
  try {
    const channel = await connection.createConfirmChannel();
    const result = new Promise((resolve, reject) => {
      channel.once("error", reject);
      channel.once("return", () => reject(new Error("no queue takes requests: does a worker run?")));
      const onResult = (message) => {
        if (message?.properties.correlationId === request_id) resolve(JSON.parse(message.content));
      };
      channel.consume(REPLY_TO, onResult, { noAck: true }).catch(reject);
    });
    channel.publish(`${AMQP_PREFIX}.requests`, "send-sms", Buffer.from(body), {
      contentType: "application/json",
      persistent: true,
      mandatory: true,
      correlationId: request_id,
      replyTo: REPLY_TO,
    });
    const late = sleep(ANSWER_WITHIN_MS, undefined, { ref: false });
    const [answer] = await Promise.all([Promise.race([result, late]), channel.waitForConfirms()]);
    return answer;
  } finally {
    await connection.close();
  }
}

/** What a caller does about a request that was rejected or has failed. */
function whatToDo({ code, retry_after }) {
  switch (code) {
    case "invalid_request":
      return "mend this program";
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
      return "tell who runs otpost";
    default:
      return "offer the person another way, and do not repeat it";
  }
}

/** The verdict on a code: `verified`, or a problem with its `code`. */
async function check(to, otp_code) {
  const response = await fetch(`${OTPOST_URL}/api/v1/otp/verify`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${OTPOST_TOKEN}` },
    body: JSON.stringify({ to, otp_code }),
    signal: AbortSignal.timeout(15_000),
  });
  return response.json();
}

/** Lets the person type until the code is right, or of no more use. */
async function verify(to) {
  process.stdout.write("Code: ");
  for await (const line of createInterface({ input: process.stdin })) {
    const verdict = await check(to, line.trim());
    if (verdict.verified) {
      console.log(`verified: ${verdict.to}`);
      return true;
    }
    const { attempts_remaining: left, retry_after = 2 } = verdict;
    console.log(`${verdict.code}: ${verdict.detail}${left ? `, ${left} tries left` : ""}`);
    if (verdict.status === 503) {
      await sleep(retry_after * 1000); // nothing was decided: the same code may be typed again
    } else if (!left) {
      console.log("ask for a new code");
      return false;
    }
    process.stdout.write("Code: ");
  }
  console.log("nobody typed a code");
  return false;
}

async function main(to) {
  const result = await askForCode(to);
  switch (result?.status) {
    case undefined:
      console.log("no result yet: the same request_id may be published again, and sends nothing twice");
      return false;
    case "sent":
      console.log(`sent to ${result.to}: good until ${result.expires_at}`);
      return verify(to);
    case "unknown":
      console.log("unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown");
      return verify(to);
    default:
      console.log(`${result.status}, ${result.error.code}: ${whatToDo(result.error)}`);
      return false;
  }
}

process.exit((await main(process.argv[2])) ? 0 : 1);
