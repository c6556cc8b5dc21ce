// The environment of the console's tests: the real `otpost serve` on a real RabbitMQ and Redis, and a Twilio that can refuse.

import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { connect, createServer as listen } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const STARTS_WITHIN_MS = 30_000;
const ACCOUNT = "AC0123456789abcdef0123456789abcdef";
const run = promisify(execFile);

/** A Twilio that accepts each message after some time, or refuses the account. */
async function twilio() {
  const state = { refuses: false, optedOut: () => false, delay: 60, sent: [] };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const answer = (status, body) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (state.refuses) return answer(401, { code: 20003, message: "Authenticate", status: 401 });
    const isMessage = request.url.endsWith("/Messages.json") && request.method === "POST";
    if (!isMessage) return answer(200, { status: "active", type: "Full", messages: [], next_page_uri: null });
    const form = new URLSearchParams(Buffer.concat(chunks).toString());
    await new Promise((done) => setTimeout(done, state.delay * (0.7 + Math.random() * 0.6)));
    if (state.optedOut(form.get("To"))) return answer(400, { code: 21610, message: "Attempt to send to unsubscribed recipient", status: 400 });
    state.sent.push(form.get("To"));
    const sid = `SM${state.sent.length.toString(16).padStart(32, "0")}`;
    answer(201, {
      sid, account_sid: ACCOUNT, status: "queued", to: form.get("To"), from: form.get("From"), body: form.get("Body"),
      num_segments: "1", num_media: "0", error_code: null, error_message: null, direction: "outbound-api", messaging_service_sid: null,
      date_created: new Date().toUTCString(), date_sent: null, date_updated: new Date().toUTCString(), price: null, price_unit: null,
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { state, url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

async function freePort() {
  const server = listen();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** One command of Redis, whose parts may be bytes. */
async function redis(...parts) {
  const url = new URL(process.env.REDIS_URL);
  const socket = connect(Number(url.port || 6379), url.hostname);
  const bytes = parts.map((part) => Buffer.from(part));
  socket.write(Buffer.concat([Buffer.from(`*${bytes.length}\r\n`),
    ...bytes.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n")])]));
  const [answer] = await new Promise((done, failed) => {
    socket.once("data", (data) => done([data.toString()]));
    socket.once("error", failed);
  });
  socket.end();
  if (answer.startsWith("-")) throw new Error(answer);
  return answer.trim();
}

/** A key as otpost shows it, with \x.. for bytes. */
const keyBytes = (shown) => Buffer.concat([...shown.matchAll(/\\x([0-9a-f]{2})|\\(.)|([^\\]+)/gs)].map(([, hex, one, plain]) =>
  hex ? Buffer.from(hex, "hex") : Buffer.from(plain ?? ({ n: "\n", r: "\r", t: "\t", a: "\x07", b: "\b" })[one] ?? one)));

/** Starts `otpost serve` with the console. */
export async function consoleStage(settings = {}) {
  const prefix = `e2e-console-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  const provider = await twilio();
  const port = await freePort();
  const directory = mkdtempSync(join(tmpdir(), "otpost-console-"));
  const env = {
    PATH: process.env.PATH, ENVIRONMENT: "development", AMQP_URL: process.env.AMQP_URL, REDIS_URL: process.env.REDIS_URL,
    AMQP_PREFIX: prefix, REDIS_PREFIX: prefix, HTTP_ADDR: `127.0.0.1:${port}`, OPS_ADDR: "127.0.0.1:0", LOG_FORMAT: "json",
    OPS_CONSOLE: "true", HTTP_SEND_WAIT_MS: "0", TWILIO_API_BASE_URL: provider.url, TWILIO_ACCOUNT_SID: ACCOUNT,
    TWILIO_AUTH_TOKEN: "9f1c61d07ab45e18d0c2b7a3e5f48196", TWILIO_FROM_NUMBER: "+13015550100", WORKER_CONCURRENCY: "8", ...settings,
  };
  const otpost = async (...words) => (await run(process.env.OTPOST, words, { cwd: directory, env })).stdout.trim();
  const child = spawn(process.env.OTPOST, ["serve"], { cwd: directory, env, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((done) => child.once("exit", done));
  // A failure elsewhere leaves nothing running.
  process.once("exit", () => child.kill("SIGKILL"));
  const lines = [];
  await new Promise((started, failed) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      if (line.includes('"message":"started"')) started();
    });
    setTimeout(() => failed(new Error("otpost did not start in time")), STARTS_WITHIN_MS).unref();
    child.once("exit", (code) => failed(new Error(`otpost ended with ${code}\n${lines.join("\n")}`)));
  });
  const url = `http://127.0.0.1:${port}/console/`;
  const sender = await otpost("token", "--scope", "otp:send");
  /** Requests a code for each of some numbers, and returns the ids of the requests. */
  const send = async (from, count) => {
    const ids = [];
    for (let nth = 0; nth < count; nth++) {
      const response = await fetch(new URL("/api/v1/otp/send", url), {
        method: "POST", headers: { Authorization: `Bearer ${sender}`, "Content-Type": "application/json" },
        body: JSON.stringify({ to: `+57300${String(from + nth).padStart(7, "0")}` }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(JSON.stringify(answer));
      ids.push(answer.request_id);
    }
    return ids;
  };
  /** Damages the record of a request, as a fault of Redis or an operator might. Returns the function that deletes it. */
  const damage = async (id) => {
    const [{ key }] = JSON.parse(await otpost("store", "show", "--request", id, "--json"));
    await redis("SET", keyBytes(key), "damaged", "KEEPTTL");
    return () => redis("DEL", keyBytes(key));
  };
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    provider.close();
    await run(process.env.CLEAN_UP, [prefix], { env: { ...process.env } });
    rmSync(directory, { recursive: true });
  };
  return {
    url, twilio: provider.state, send, damage, lines, otpost, stop,
    token: (scope = "otp:admin") => otpost("token", "--scope", scope),
    kill: () => child.kill("SIGSTOP"), wake: () => child.kill("SIGCONT"),
  };
}
