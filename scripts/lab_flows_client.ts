// The lab's client for tests that say when connections open and when they speak: from source ports that
// are given, checking every byte. Takes one JSON command a line and answers each with one JSON line; ends
// with its standard input.
//
//   lab_flows_client ADDRESS PORT
//   {"open":[PORT,…]}       connects from these ports; answered when each was told its server's name
//   {"talk":true}           sends a line on every open connection, again and again
//   {"settle":BYTES}        stops that; each sends one more line, of so many bytes; answered when all have it
//                           back, or never will
//   {"ask":PORT,"bytes":N}  the same of one connection
//
// The server says its name and a newline first, then sends everything back.

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Conversation } from "./lab_conversation.ts";

/** What is known of a connection. */
export interface FlowReport {
  readonly port: number;
  /** Of the server; empty: it never said so. */
  readonly name: string;
  /** How it broke, or null. */
  readonly reason: string | null;
  /** Lines that came back whole. */
  readonly lines: number;
}

/** Between two lines of one connection. */
const PAUSE_MS = 50;
/** Longer than a lost packet takes to be sent again a few times. */
const SILENT_MS = 15_000;
const SHORT_BYTES = 40;

const [, , address = "", portText = "0"] = process.argv;

class Flow {
  readonly #port: number;
  readonly #conversation: Conversation;
  #name = "";
  #lines = 0;
  /** One line at a time. */
  #last: Promise<void>;

  constructor(port: number) {
    this.#port = port;
    this.#conversation = new Conversation({ host: address, port: Number(portText), localPort: port }, SILENT_MS);
    this.#last = this.#conversation.line().then((name) => { this.#name = name ?? ""; });
  }

  async report(): Promise<FlowReport> {
    await this.#last;
    return { port: this.#port, name: this.#name, reason: this.#conversation.reason, lines: this.#lines };
  }

  /** Sends a line, once the one before is back. */
  async speak(bytes: number): Promise<FlowReport> {
    this.#last = this.#last.then(() => (this.#conversation.reason === null ? this.#exchange(bytes) : undefined));
    return this.report();
  }

  end(): void { this.#conversation.end(); }

  async #exchange(bytes: number): Promise<void> {
    const line = `port ${this.#port} line ${this.#lines} `.padEnd(bytes, "0123456789abc");
    if (await this.#conversation.repeats(line)) this.#lines += 1;
  }
}

const flows = new Map<number, Flow>();
let isTalking = false;
let talk: Promise<void> = Promise.resolve();

async function talkOn(): Promise<void> {
  while (isTalking) {
    await Promise.all([...flows.values()].map((flow) => flow.speak(SHORT_BYTES)));
    await sleep(PAUSE_MS);
  }
}

type Command = { readonly open: readonly number[] } | { readonly talk: true } | { readonly settle: number }
  | { readonly ask: number; readonly bytes: number };

async function obey(command: Command): Promise<readonly FlowReport[]> {
  if ("open" in command) {
    const opened = command.open.map((port) => new Flow(port));
    command.open.forEach((port, at) => { flows.set(port, opened[at]!); });
    return Promise.all(opened.map((flow) => flow.report()));
  }
  if ("talk" in command) {
    isTalking = true;
    talk = talkOn();
    return [];
  }
  if ("ask" in command) {
    const flow = flows.get(command.ask);
    return flow === undefined ? [] : [await flow.speak(command.bytes)];
  }
  isTalking = false;
  await talk;
  return Promise.all([...flows.values()].map((flow) => flow.speak(command.settle)));
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await obey(JSON.parse(line) as Command))}\n`);
}
isTalking = false;
for (const flow of flows.values()) flow.end();
