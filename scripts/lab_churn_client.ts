// The lab's client while backends come and go: connections that stay open and check every byte, opened
// anew when they break, beside connections for one question each. Prints JSON, one line for each
// connection that broke and a last one with the counts. Ends by itself.
//
//   lab_churn_client ADDRESS PORT COUNT SECONDS [QUESTIONS-AT-ONCE]
//
// The server says its name and a newline first, then sends everything back.

import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A connection that ended before its time. */
export interface Broken {
  readonly kind: "long" | "short";
  /** Of the backend; empty: it never said so. */
  readonly name: string;
  /** Wall clock, milliseconds. */
  readonly openedMs: number;
  readonly brokenMs: number;
  readonly reason: string;
}

export interface ChurnCounts {
  readonly long: number;
  readonly short: number;
  readonly lines: number;
}

/** Between two lines of one connection. */
const LINE_EVERY_MS = 500;
/** Longer than a lost packet takes to be sent again a few times. */
const SILENT_MS = 10_000;
const SHORT_AT_ONCE = 4;

const [, , address = "", port = "0", countText = "0", secondsText = "0", atOnceText = String(SHORT_AT_ONCE)] = process.argv;
const endMs = Date.now() + Number(secondsText) * 1000;
const counts = { long: 0, short: 0, lines: 0 };

/** Opens a connection; its promises settle by what comes, by its end, or by silence. */
class Checked {
  readonly openedMs = Date.now();
  name = "";
  reason: string | null = null;
  readonly #socket: Socket;
  #unread = "";
  #wake: (() => void) | null = null;

  constructor() {
    this.#socket = connect({ host: address, port: Number(port) });
    this.#socket.setEncoding("latin1");
    this.#socket.on("data", (chunk: string) => { this.#unread += chunk; this.#wake?.(); });
    this.#socket.on("error", (error: NodeJS.ErrnoException) => { this.#fail(error.code ?? error.message); });
    this.#socket.on("close", () => { this.#fail("closed"); });
  }

  /** The next line; null: there will be none. */
  async line(): Promise<string | null> {
    const silent = setTimeout(() => { this.#fail("silent"); }, SILENT_MS);
    while (!this.#unread.includes("\n") && this.reason === null)
      await new Promise<void>((resolve) => { this.#wake = resolve; });
    clearTimeout(silent);
    const at = this.#unread.indexOf("\n");
    if (at < 0) return null;
    const line = this.#unread.slice(0, at);
    this.#unread = this.#unread.slice(at + 1);
    return line;
  }

  async hears(): Promise<boolean> {
    this.name = (await this.line()) ?? "";
    return this.reason === null;
  }

  /** Whether this line comes back as it is. */
  async repeats(text: string): Promise<boolean> {
    this.#socket.write(`${text}\n`);
    counts.lines += 1;
    const answer = await this.line();
    if (answer !== null && answer !== text) this.#fail(`"${answer}" for "${text}"`);
    return this.reason === null;
  }

  end(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  /** Says what became of it, if it broke. */
  tell(kind: Broken["kind"]): void {
    if (this.reason === null) return;
    const { name, openedMs, reason } = this;
    const broken: Broken = { kind, name, openedMs, brokenMs: Date.now(), reason };
    process.stdout.write(`${JSON.stringify(broken)}\n`);
  }

  #fail(reason: string): void {
    this.reason ??= reason;
    this.#wake?.();
  }
}

async function stay(index: number): Promise<void> {
  // Not all at once, and not in step.
  await sleep((index * LINE_EVERY_MS) / Number(countText));
  while (Date.now() < endMs) {
    const one = new Checked();
    counts.long += 1;
    let fine = await one.hears();
    for (let round = 0; fine && Date.now() < endMs; round++) {
      fine = await one.repeats(`connection ${index} round ${round}`);
      if (fine) await sleep(LINE_EVERY_MS);
    }
    one.end();
    one.tell("long");
  }
}

async function ask(): Promise<void> {
  while (Date.now() < endMs) {
    const one = new Checked();
    counts.short += 1;
    if (await one.hears()) await one.repeats(`question ${counts.short}`);
    one.end();
    one.tell("short");
    await sleep(1);
  }
}

process.stdout.write("churning\n");
await Promise.all([
  ...Array.from({ length: Number(countText) }, (_, index) => stay(index)),
  ...Array.from({ length: Number(atOnceText) }, () => ask()),
]);
process.stdout.write(`${JSON.stringify(counts satisfies ChurnCounts)}\n`);
