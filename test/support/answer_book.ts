// What both sides of the differential test know of backends' first answers. Knows the counters, and what decide() says.

import type { Decision } from "../../src/model/decide.ts";
import type { BpfWorld } from "./bpf_world.ts";

export class AnswerBook {
  readonly #world: BpfWorld;
  readonly #counted: Map<number, { readonly answers: bigint; readonly waitedNs: bigint }>;

  constructor(world: BpfWorld, destinations: Iterable<number>) {
    this.#world = world;
    this.#counted = new Map([...destinations].map((id) => [id, world.answers(id)]));
  }

  /** One packet, as decided with the time before it and with the time after it. True: it was a first answer. */
  check({ answer: early }: Decision, { answer: late }: Decision): boolean {
    if (early === undefined || late === undefined) {
      if (early !== late) throw new Error("whether it is a first answer depends on the time");
      return false;
    }
    const before = this.#counted.get(early.destination)!;
    const found = this.#world.answers(early.destination);
    const waitedNs = found.waitedNs - before.waitedNs;
    if (found.answers !== before.answers + 1n || waitedNs < early.waitedNs || waitedNs > late.waitedNs) {
      throw new Error(`decide() counts an answer after ${early.waitedNs} to ${late.waitedNs} ns, the program`
        + ` ${found.answers - before.answers} after ${waitedNs} ns`);
    }
    this.#counted.set(early.destination, found);
    return true;
  }

  /** Nothing else was counted. */
  finish(): void {
    for (const [id, expected] of this.#counted) {
      const found = this.#world.answers(id);
      if (found.answers !== expected.answers || found.waitedNs !== expected.waitedNs)
        throw new Error(`${found.answers} answers of destination ${id}, and not ${expected.answers}`);
    }
  }
}
