// Connections of the lab's client that a test opens and has speak when it says so. Knows the program
// scripts/lab_flows_client.ts; knows no balancer.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { FlowReport } from "./lab_flows_client.ts";
import type { LabHost } from "./lab_network.ts";
import { ROOT } from "./lab_services.ts";
import { spawnIn } from "./namespaces.ts";

export class Flows {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #said = "";

  constructor({ namespace }: Pick<LabHost, "namespace">, address: string, port: number) {
    const program = join(ROOT, "dist/scripts/lab_flows_client.js");
    this.#child = spawnIn(namespace, process.execPath, [program, address, String(port)], { stdio: "pipe" });
    this.#child.stderr?.on("data", (chunk: Buffer) => { this.#said += chunk.toString(); });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Opens connections from these ports; resolves when each has heard who serves it, or has failed. */
  open(ports: readonly number[]): Promise<readonly FlowReport[]> { return this.#command({ open: ports }); }

  /** Every open connection sends line after line from now on. */
  async talk(): Promise<void> { await this.#command({ talk: true }); }

  /** Ends that with one more line of each, of so many bytes; says what became of all. */
  settle(bytes: number): Promise<readonly FlowReport[]> { return this.#command({ settle: bytes }); }

  /** Has one connection send a line. */
  async ask(port: number, bytes: number): Promise<FlowReport> {
    const [report] = await this.#command({ ask: port, bytes });
    if (report === undefined) throw new Error(`there is no connection from port ${port}`);
    return report;
  }

  async close(): Promise<void> {
    this.#child.stdin?.end();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }

  async #command(command: object): Promise<readonly FlowReport[]> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const answer: IteratorResult<string, unknown> = await this.#answers.next();
    if (answer.done === true) throw new Error(`the client ended: ${this.#said}`);
    return JSON.parse(answer.value) as readonly FlowReport[];
  }
}
