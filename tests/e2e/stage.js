// The environment of the tests: the real `otpost dev` on free ports, and an installed browser.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const STARTS_WITHIN_MS = 30_000;

/** Starts a gateway with everything in memory. */
export async function gateway(settings = {}) {
  // An empty directory and environment keep out a `.env` and local settings.
  const directory = mkdtempSync(join(tmpdir(), "otpost-e2e-"));
  const env = { PATH: process.env.PATH, HTTP_ADDR: "127.0.0.1:0", OPS_ADDR: "127.0.0.1:0", ...settings };
  const process_ = spawn(process.env.OTPOST, ["dev"], { cwd: directory, env, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((done) => process_.once("exit", done));
  const stop = async () => {
    process_.kill("SIGTERM");
    await ended;
    rmSync(directory, { recursive: true });
  };
  const lines = createInterface({ input: process_.stdout });
  const url = await new Promise((found, lost) => {
    lines.on("line", (line) => {
      const url = line.match(/^ {2}page +(http:\S+)$/)?.[1];
      if (url) found(url);
    });
    setTimeout(() => lost(new Error("otpost printed no page URL in time")), STARTS_WITHIN_MS).unref();
    process_.once("exit", (code) => lost(new Error(`otpost ended with ${code}`)));
  });
  return { url, stop };
}

/** A browser without background network access. */
export function browser() {
  return chromium.launch({
    executablePath: process.env.BROWSER,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
}
