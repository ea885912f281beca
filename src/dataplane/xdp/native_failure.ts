// What the addon and rtnetlink throw, as failures an operator can act on. Knows errno and capabilities;
// knows no step. What is not theirs goes through as it is: a bug must stay a bug.

import { Failure } from "../../errors.ts";
import { NetlinkError } from "./netlink/requests.ts";
import type { NativeError } from "./native.ts";

const ERRNO = { EPERM: 1, EACCES: 13 } as const;

export function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && "errno" in error && "operation" in error && "object" in error && "log" in error;
}

/** The remedy for each map that a config can fill. */
const REMEDIES: Readonly<Record<string, string>> = {
  services: "raise limits.services", virtual_addresses: "raise limits.services",
  service_active: "raise limits.services", service_versions: "raise limits.services",
  service_traffic: "raise limits.services", service_pace: "raise limits.services",
  pick_states: "raise limits.services", service_flows: "raise limits.services", destination_flows: "raise limits.backends",
  rings_small: "raise limits.services", rings_medium: "raise limits.services", rings_large: "raise limits.services",
  tunnel_ends: "raise limits.backends", destinations: "raise limits.backends", destination_traffic: "raise limits.backends",
  answer_counts: "raise limits.backends",
  flows: "raise limits.flows", nat_flows: "raise limits.natFlows", fragments: "raise limits.fragments",
  affinities: "raise limits.affinities",
  wildcards: "raise limits.services", address_groups: "raise limits.services",
  region_tables: "raise limits.services", region_services: "raise limits.services", region_names: "raise limits.services",
  group_services: "give the services fewer prefixes, or ranges of ports that begin and end at rounder numbers",
  quic_configs: "give the services fewer quicLb configs",
  quic_servers: "give the backends fewer serverIds",
  policies: "give the services fewer allow and deny prefixes, or wider ones",
};

/**
 * A Failure for what the kernel refused; anything else is returned as it came. `entriesMaxOf` tells how
 * many entries a map has room for, 0 when that is not known.
 */
export function failureFrom(
  error: unknown, entriesMaxOf: (map: string) => number = () => 0,
): unknown {
  if (error instanceof NetlinkError) return fromNetlink(error);
  if (isFileError(error)) return fromFiles(error);
  if (!isNativeError(error)) return error;
  const what = `${error.operation}${error.object === "" ? "" : ` of ${error.object}`}`;
  switch (error.code) {
    case "PERMISSION":
      return new Failure("PERMISSION_DENIED", { operation: what, capability: "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON" },
        `${what} is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON`, error);
    case "VERIFIER": {
      const log = error.log ?? "";
      const lastLine = log.trimEnd().split("\n").at(-1) ?? "";
      return new Failure("VERIFIER_REJECTED", { program: error.object, lastLine, log },
        `this kernel's verifier rejects ${error.object}: ${lastLine}`, error);
    }
    case "FULL":
      return mapFull(error, entriesMaxOf(error.object));
    default:
      return new Failure("SYSTEM", { operation: what }, `${what} failed: ${error.message}`, error);
  }
}

function mapFull(error: NativeError, entriesMax: number): Failure {
  const map = error.object;
  const size = entriesMax === 0 ? "" : ` with ${entriesMax} entries`;
  return new Failure("MAP_FULL", { map, entriesMax },
    `the map ${map} is full${size}: ${REMEDIES[map] ?? "raise limits in the config"}`, error);
}

interface FileError extends Error {
  readonly code: string;
  readonly syscall: string;
}

/** What Node throws for a name in bpffs: it has a system call, and no object. */
function isFileError(error: unknown): error is FileError {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}

function fromFiles(error: FileError): Failure {
  if (error.code === "EACCES" || error.code === "EPERM") {
    return new Failure("PERMISSION_DENIED", { operation: error.message, capability: "CAP_BPF, CAP_SYS_ADMIN" },
      `${error.message}: run as root, or have bpffs with a directory of your own (POINTSMAN_BPFFS)`, error);
  }
  return new Failure("SYSTEM", { operation: error.syscall }, error.message, error);
}

function fromNetlink(error: NetlinkError): Failure {
  if (error.errno === ERRNO.EPERM || error.errno === ERRNO.EACCES) {
    return new Failure("PERMISSION_DENIED", { operation: error.message, capability: "CAP_NET_ADMIN" },
      `${error.message}: not permitted; run as root, or with CAP_NET_ADMIN`, error);
  }
  return new Failure("SYSTEM", { operation: error.message }, `rtnetlink refuses: ${error.message}`, error);
}

/** Runs it; what the kernel refuses comes out as a Failure. */
export function withFailures<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failureFrom(error);
  }
}
