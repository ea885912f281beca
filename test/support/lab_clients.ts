// More addresses of the lab's client, so that one host is several clients. Knows the lab; must never know who serves them.

import type { Lab } from "../../scripts/lab_network.ts";
import { runInSync } from "../../scripts/namespaces.ts";

export interface LabClient {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Beside the client's own, by their last numbers. */
export function addClients({ client, interface: device }: Lab, lasts: readonly number[]): LabClient[] {
  return lasts.map((last) => {
    const added = { ipv4: client.ipv4.replace(/\d+$/, String(last)), ipv6: client.ipv6.replace(/[\da-f]+$/, last.toString(16)) };
    runInSync(client.namespace, "ip", ["address", "add", `${added.ipv4}/24`, "dev", device]);
    runInSync(client.namespace, "ip", ["-6", "address", "add", `${added.ipv6}/64`, "dev", device, "nodad"]);
    return added;
  });
}
