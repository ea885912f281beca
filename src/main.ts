#!/usr/bin/env node
// The program: the real Env, signals and exit codes, and nothing else.

import { userInfo } from "node:os";
import { createInterface } from "node:readline/promises";
import { setFlagsFromString } from "node:v8";
import { connectClient } from "./api/client.ts";
import { EXIT } from "./cli/io.ts";
import { bugText, runCli } from "./cli/program.ts";
import { createEnv } from "./env_real.ts";

// What many sockets at once are made of, as at a start, V8 would make in the old generation from then on, and each
// piece would keep a socket with all its parts from a young death: an eighth of what a health probe costs.
setFlagsFromString("--no-allocation-site-pretenuring");

/** Who asks, for the records: the login behind sudo, too. */
function actor(): string {
  const sudo = process.env["SUDO_USER"];
  if (sudo !== undefined && sudo !== "") return `${sudo} (sudo)`;
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
}

const interruption = new AbortController();
let signals = 0;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    signals++;
    // The second Ctrl-C does not wait for anybody.
    if (signals > 1) process.exit(signal === "SIGINT" ? 130 : 143);
    interruption.abort(signal);
  });
}
// A reader that went away (`pointsman events --watch | head`) is not a failure: what prints on and on ends,
// and everything else ends by itself, with its own code.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") {
    interruption.abort("EPIPE");
    return;
  }
  process.stderr.write(`pointsman: SYSTEM: standard output cannot be written: ${error.message}\n`);
  process.exit(EXIT.failure);
});
process.stderr.on("error", () => { /* there is nobody left to tell */ });
process.on("uncaughtException", (error) => {
  process.stderr.write(bugText(error));
  process.exit(EXIT.bug);
});

function onSignal(signal: NodeJS.Signals, callback: () => void): () => void {
  process.on(signal, callback);
  return () => { process.off(signal, callback); };
}

const env = createEnv();
process.exitCode = await runCli(process.argv.slice(2), {
  env,
  out: (text) => { process.stdout.write(text); },
  err: (text) => { process.stderr.write(text); },
  isTty: process.stdout.isTTY && process.stdin.isTTY,
  columns: process.stdout.isTTY ? process.stdout.columns : 80,
  actor: actor(),
  confirm: async (question) => {
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    try {
      return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
    } finally {
      terminal.close();
    }
  },
  interrupted: interruption.signal,
  onHangup: (callback) => onSignal("SIGHUP", callback),
  onUpgradeSignal: (callback) => onSignal("SIGUSR2", callback),
  connect: connectClient,
});
