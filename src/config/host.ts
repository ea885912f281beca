// What rules may know of the host that a file is checked on: the ports that its own connections come
// from. Callers read it and hand it over; absent, those rules are silent. Must never look by itself at
// anything but the files that it is given.

import type { Files } from "../env.ts";
import type { PortRange } from "../model/service_address.ts";

export interface HostFacts {
  /** net.ipv4.ip_local_port_range, which counts for IPv6 too. */
  readonly localPorts: PortRange;
  /** net.ipv4.ip_local_reserved_ports: of those, the ones that are never taken. */
  readonly reservedPorts: readonly PortRange[];
}

const SYSCTL = "/proc/sys/net/ipv4";

/** Null where the kernel says nothing of it, as on other systems than Linux. */
export function hostFacts(files: Pick<Files, "read">): HostFacts | null {
  const local = /^\s*(\d+)\s+(\d+)/.exec(textOf(files, `${SYSCTL}/ip_local_port_range`));
  if (local === null) return null;
  const reserved = textOf(files, `${SYSCTL}/ip_local_reserved_ports`).trim();
  return {
    localPorts: { from: Number(local[1]), to: Number(local[2]) },
    reservedPorts: reserved.split(",").flatMap((text) => {
      const range = /^(\d+)(?:-(\d+))?$/.exec(text.trim());
      return range === null ? [] : [{ from: Number(range[1]), to: Number(range[2] ?? range[1]) }];
    }),
  };
}

function textOf(files: Pick<Files, "read">, path: string): string {
  try {
    return new TextDecoder().decode(files.read(path) ?? new Uint8Array(0));
  } catch {
    return "";
  }
}

/** The ports of both, from the first one that is not reserved to the last; null: they do not meet. */
export function portsTaken({ localPorts, reservedPorts }: HostFacts, ports: PortRange): PortRange | null {
  const isFree = (port: number): boolean =>
    reservedPorts.some(({ from, to }) => from <= port && port <= to);
  let from = Math.max(localPorts.from, ports.from);
  let to = Math.min(localPorts.to, ports.to);
  while (from <= to && isFree(from)) from += 1;
  while (from <= to && isFree(to)) to -= 1;
  return from <= to ? { from, to } : null;
}
