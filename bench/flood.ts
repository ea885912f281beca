// Floods the lab's balancer with SYNs from invented addresses, sent by the switch's port that leads to it, as if by
// the client: what benchmarks and tests have in common. syn_flood.ts is the program that sends.

import type { Lab } from "../scripts/lab_network.ts";
import { startLoad } from "../scripts/lab_services.ts";
import { runInSync } from "../scripts/namespaces.ts";

export interface Flood {
  /** Once it has ended: SYNs, and how many a second. */
  readonly sent: Promise<number>;
  readonly perSecond: Promise<number>;
}

export interface FloodOptions {
  readonly address: string;
  readonly port: number;
  readonly rate: number;
  readonly seconds: number;
}

function macOf(namespace: string): string {
  const [link] = JSON.parse(runInSync(namespace, "ip", ["-j", "link", "show", "eth0"]).stdout) as [{ address: string }];
  return link.address;
}

/**
 * `object`: syn_flood, compiled. The frames bypass the switch itself, which would have to make a packet of the kernel's
 * of each. Something has to be attached to the balancer's interface, or its link takes no such frames.
 */
export async function startFlood(
  lab: Pick<Lab, "client" | "balancer" | "network">, object: string, { address, port, rate, seconds }: FloodOptions,
): Promise<Flood> {
  const { lastLine } = await startLoad(
    lab.network, "bench/syn_flood.js", object, lab.balancer.name, macOf(lab.client.namespace), macOf(lab.balancer.namespace),
    address, String(port), String(rate), String(seconds),
  );
  const counted = lastLine.then((last) =>
    last.startsWith("{") ? JSON.parse(last) as { sent: number; seconds: number } : { sent: 0, seconds: 1 });
  return {
    sent: counted.then(({ sent }) => sent),
    perSecond: counted.then((each) => each.sent / each.seconds),
  };
}
