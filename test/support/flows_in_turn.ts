// A client of the lab that opens flows one after the other and keeps them open (fixtures/flows_in_turn.mjs), as tests see
// it. Knows the fixture's words; must never know who should have a flow.

import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../scripts/lab_network.ts";
import { spawnIn } from "../../scripts/namespaces.ts";

export interface WantedFlows {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly count: number;
  /** Of the client; the others follow it. */
  readonly firstPort: number;
  /** The client's; absent: by its routes. */
  readonly localAddress?: string;
}

export interface FlowsInTurn {
  /** Who has each flow, in the order in which they were opened; "": nobody. */
  readonly names: readonly string[];
  /** Who has them now: each is asked once more. */
  again: () => Promise<readonly string[]>;
  close: () => Promise<void>;
}

const FIXTURE = fileURLToPath(new URL("../kernel/fixtures/flows_in_turn.mjs", import.meta.url));

export async function openInTurn(lab: Lab, wanted: WantedFlows): Promise<FlowsInTurn> {
  const { protocol, address, port, count, firstPort, localAddress } = wanted;
  const args = [FIXTURE, protocol, address, port, count, firstPort, ...(localAddress === undefined ? [] : [localAddress])].map(String);
  const client = spawnIn(lab.client.namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: client.stdout! })[Symbol.asyncIterator]();
  const heard = async (): Promise<readonly string[]> => {
    const line: IteratorResult<string, undefined> = await lines.next();
    return JSON.parse(line.value ?? "[]") as readonly string[];
  };
  return {
    names: await heard(),
    again: () => {
      client.stdin?.write("again\n");
      return heard();
    },
    close: async () => {
      client.stdin?.end();
      if (client.exitCode === null) await once(client, "exit");
    },
  };
}

/** The same, closed again: who had each. */
export async function askInTurn(lab: Lab, wanted: WantedFlows): Promise<readonly string[]> {
  const flows = await openInTurn(lab, wanted);
  await flows.close();
  return flows.names;
}
