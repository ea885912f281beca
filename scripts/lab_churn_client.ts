// The lab's client while backends come and go: connections that stay open and check every byte, opened
// anew when they break, beside connections for one question each. Prints JSON, one line for each
// connection that broke and a last one with the counts. Ends by itself.
//
//   lab_churn_client ADDRESS PORT COUNT SECONDS [QUESTIONS-AT-ONCE]
//
// The server says its name and a newline first, then sends everything back.

import { setTimeout as sleep } from "node:timers/promises";
import { Conversation } from "./lab_conversation.ts";

/** A connection that ended before its time. */
export interface Broken {
  readonly kind: "long" | "short";
  /** Of the backend; empty: it never said so. */
  readonly name: string;
  /** Wall clock, milliseconds. */
  readonly openedMs: number;
  readonly brokenMs: number;
  /** The client's; 0: it never got a connection. */
  readonly port: number;
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
  readonly #conversation = new Conversation({ host: address, port: Number(port) }, SILENT_MS);
  #name = "";

  async hears(): Promise<boolean> {
    this.#name = (await this.#conversation.line()) ?? "";
    return this.#conversation.reason === null;
  }

  /** Whether this line comes back as it is. */
  async repeats(text: string): Promise<boolean> {
    counts.lines += 1;
    await this.#conversation.repeats(text);
    return this.#conversation.reason === null;
  }

  end(): void { this.#conversation.end(); }

  /** Says what became of it, if it broke. */
  tell(kind: Broken["kind"]): void {
    const { reason, port } = this.#conversation;
    if (reason === null) return;
    const broken: Broken = { kind, name: this.#name, openedMs: this.openedMs, brokenMs: Date.now(), port, reason };
    process.stdout.write(`${JSON.stringify(broken)}\n`);
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
