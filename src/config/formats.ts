// The small languages inside config values: durations, addresses, prefixes, seeds, endpoints,
// names. Each has one reader; a check says what is wrong with a text the reader refuses. Knows
// texts only; must never know where in the file they stand.

import ipaddr from "ipaddr.js";
import { parseAddress, parseEndpoint, parsePrefix } from "../model/address.ts";
import type { Address, Prefix } from "../model/address.ts";
import { holdsAddress, parsePorts, PORT_MAX } from "../model/service_address.ts";
import type { PortRange } from "../model/service_address.ts";
import { fixedSource } from "../model/tunnel_source.ts";
import type { HashSeed } from "../model/config.ts";
import { quoted } from "./problem.ts";

export interface Complaint {
  readonly reason: string;
  readonly hint: string | null;
}
/** null: nothing to complain about. */
export type Check = (text: string) => Complaint | null;

const UNITS_MS = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
const SOCKET_PATH_BYTES_MAX = 107;

export const NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,62}$";
export const DURATION_PATTERN = "^(0|[1-9][0-9]*)(ms|s|m|h)$";
export const HASH_SEED_PATTERN = "^(file:/[^\\u0000-\\u001f]+|[0-9a-fA-F]{16})$";
export const MAC_PATTERN = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$";
export const INTERFACE_PATTERN = "^[^\\s/:%]{1,15}$";
export const PATH_PATTERN = "^/[^\\u0000-\\u001f\\u007f]*$";
export const PORTS_PATTERN = "^(any|[1-9][0-9]{0,4}-[1-9][0-9]{0,4})$";

/** Milliseconds, or null when the text is no duration. */
export function durationMs(text: string): number | null {
  const match = new RegExp(DURATION_PATTERN).exec(text);
  if (match === null) return null;
  return Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
}

/** The shortest text of a whole number of milliseconds. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  for (const [unit, size] of Object.entries(UNITS_MS)) {
    if (ms % size === 0) return `${ms / size}${unit}`;
  }
  throw new RangeError(`a duration is a whole number of milliseconds, not ${ms}`);
}

export function checkDuration(min: string, max: string): Check {
  return (text) => {
    const ms = durationMs(text);
    if (ms === null) {
      return { reason: `${quoted(text)} is not a duration`, hint: durationHint(text) };
    }
    if (ms < (durationMs(min) ?? 0)) {
      return { reason: `${text} is shorter than ${min}`, hint: null };
    }
    if (ms > (durationMs(max) ?? 0)) return { reason: `${text} is longer than ${max}`, hint: null };
    return null;
  };
}

function durationHint(text: string): string {
  if (/^\d+$/.test(text)) return `durations carry a unit: ${text}s or ${text}ms`;
  const fraction = /^(\d*\.\d+)\s*(ms|s|m|h)$/.exec(text);
  const ms = Number(fraction?.[1]) * UNITS_MS[(fraction?.[2] ?? "ms") as keyof typeof UNITS_MS];
  if (Number.isSafeInteger(ms)) return `whole numbers only: ${formatDuration(ms)}`;
  return "a whole number and one unit: 500ms, 2s, 1m or 1h";
}

export function checkName(text: string): Complaint | null {
  if (new RegExp(NAME_PATTERN).test(text)) return null;
  const hint = "1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit";
  return { reason: `${quoted(text)} is not a name`, hint };
}

/**
 * An address that packets can be sent to: not unspecified, multicast, broadcast or of one link
 * only.
 */
export function checkHostAddress(text: string): Complaint | null {
  const address = parseAddress(text);
  if (address === null) {
    return { reason: `${quoted(text)} is not an IP address`, hint: addressHint(text) };
  }
  switch (ipaddr.process(address.text).range()) {
    case "unspecified":
      return { reason: `${address.text} is no host's address`, hint: "name the address itself" };
    case "multicast":
      return {
        reason: `${address.text} is a multicast address`, hint: "one host's address is needed",
      };
    case "broadcast":
      return {
        reason: `${address.text} is the broadcast address`, hint: "one host's address is needed",
      };
    case "linkLocal":
      if (address.family === 4) return null;
      return {
        reason: `${address.text} is link-local`, hint: "use a global or unique local address",
      };
    default: return null;
  }
}

function addressHint(text: string): string | null {
  if (text.includes("/")) return "an address has no prefix length";
  if (text.includes("%")) return "zones are not supported";
  const endpoint = parseEndpoint(text);
  if (endpoint !== null) return `the port has a key of its own: address: ${endpoint.address.text}`;
  const parts = text.split(".");
  if (parts.length === 4 && parts.every((part) => /^\d{1,4}$/.test(part))) {
    const plain = parts.map((part) => String(Number(part))).join(".");
    if (parseAddress(plain) === null) return "each part is 0 to 255";
    return `leading zeros may mean octal; if decimal was meant, write ${plain}`;
  }
  return "host names are not resolved here; write the address, such as 10.0.0.11 or 2001:db8::11";
}

const TUNNEL_PREFIX_MIN = 8;

/** An address of one family, or a prefix that has room for sources of its own. */
export function checkTunnelSource(family: 4 | 6): Check {
  return (text) => {
    const isPrefix = text.includes("/");
    const complaint = isPrefix ? checkPrefix(text) : checkHostAddress(text);
    if (complaint !== null) return complaint;
    const { address, length } = readTunnelSource(text);
    const hosts = checkHostAddress(address.text);
    if (hosts !== null) return hosts;
    if (address.family !== family) {
      const kind = isPrefix ? "prefix" : "address";
      return { reason: `${text} is not an IPv${family} ${kind}`, hint: null };
    }
    const whole = family === 4 ? 32 : 128;
    if (length === whole || (length >= TUNNEL_PREFIX_MIN && length <= whole - 2)) return null;
    return {
      reason: `${text} is no source of tunnels`,
      hint: `a prefix has ${TUNNEL_PREFIX_MIN} to ${whole - 2} bits here; `
        + "a single address stands alone",
    };
  };
}

const VIRTUAL_PREFIX_MIN = 8;
/** ::ffff:0:0, as IPv4 stands in IPv6 (RFC 4291, 2.5.5.2). */
const MAPPED = readAddress("0.0.0.0").bytes;

/** An address that clients use, or a prefix of them. */
export function checkVirtualAddress(text: string): Complaint | null {
  if (!text.includes("/")) return checkHostAddress(text);
  const complaint = checkPrefix(text);
  if (complaint !== null) return complaint;
  const { address, length } = readPrefix(text);
  if (length < VIRTUAL_PREFIX_MIN) {
    return {
      reason: `${text} is too much of the address space for a service`,
      hint: `a prefix has at least ${VIRTUAL_PREFIX_MIN} bits here`,
    };
  }
  if (address.family === 6 && holdsAddress({ address, length, text }, MAPPED)) {
    return {
      reason: `${text} holds IPv4-mapped addresses, which no packet has`, hint: "use a longer prefix",
    };
  }
  return checkHostAddress(address.text);
}

/** What a text that passed checkVirtualAddress stands for. */
export function readVirtualAddress(text: string): Prefix {
  return text.includes("/") ? readPrefix(text) : fixedSource(readAddress(text));
}

/** A port of a service: a number, a range in text, or any. */
export function checkPorts(value: string | number): Complaint | null {
  const found = typeof value === "number" ? String(value) : quoted(value);
  if (typeof value === "number") {
    const hint = `a whole number from 1 to ${PORT_MAX}`;
    if (value === 0) return { reason: "port 0 means nothing here", hint };
    if (value < 1) return { reason: `${found} is less than 1`, hint };
    if (value > PORT_MAX) return { reason: `${found} is more than ${PORT_MAX}`, hint };
    return null;
  }
  const ports = parsePorts(value);
  if (ports !== null && (ports.from < ports.to)) return null;
  return { reason: `${found} is not a port or a range of ports`, hint: portsHint(value) };
}

/** Ports that a host may take for connections of its own: those that need no privilege. */
export function checkNatPorts(value: string): Complaint | null {
  const complaint = value === "any" ? portsComplaint(value) : checkPorts(value);
  if (complaint !== null) return complaint;
  const { from } = readPorts(value);
  if (from >= UNPRIVILEGED_PORT) return null;
  return {
    reason: `port ${from} is one of those that services have`, hint: `begin at ${UNPRIVILEGED_PORT} or above`,
  };
}

const UNPRIVILEGED_PORT = 1024;

function portsComplaint(value: string): Complaint {
  return { reason: `${quoted(value)} is not a range of ports`, hint: 'such as "10000-32767"' };
}

function portsHint(text: string): string {
  if (/^\d+$/.test(text)) return "remove the quotes";
  const range = /^\s*(\d+)\s*(?:-|\.\.|:|–)\s*(\d+)\s*$/.exec(text);
  const from = Number(range?.[1] ?? Number.NaN);
  const to = Number(range?.[2] ?? Number.NaN);
  if (from === 0 && to === PORT_MAX) return "for every port, write any";
  if (from === to) return `one port is port: ${from}`;
  if (from > to) return `the range is empty; ${to}-${from}?`;
  if (from >= 1 && to <= PORT_MAX) return `write "${from}-${to}"`;
  return `such as 443, "8000-8099" or any; ports are 1 to ${PORT_MAX}`;
}

/** What a value that passed checkPorts stands for. */
export function readPorts(value: string | number): PortRange {
  const ports = parsePorts(String(value));
  if (ports === null) throw new TypeError(`unchecked port ${quoted(String(value))}`);
  return ports;
}

export function checkPrefix(text: string): Complaint | null {
  const prefix = parsePrefix(text);
  if (prefix === null) return { reason: `${quoted(text)} is not a prefix`, hint: prefixHint(text) };
  const [address = "", length = ""] = text.split("/");
  if (parseAddress(address)?.text === prefix.address.text) return null;
  return {
    reason: `${text} has bits set beyond its first ${length}`, hint: `write ${prefix.text}`,
  };
}

function prefixHint(text: string): string {
  const address = parseAddress(text);
  if (address !== null) {
    return `a single address is ${address.text}/${address.family === 4 ? 32 : 128}`;
  }
  const [left = "", length = ""] = text.split("/");
  const network = parseAddress(left);
  if (network !== null && /^\d+$/.test(length)) {
    if (left.includes(":") && network.family === 4) {
      return `write the IPv4 form, ${network.text}/...`;
    }
    const bits = network.family === 4 ? 32 : 128;
    return `the length of an IPv${network.family} prefix is 0 to ${bits}`;
  }
  return "an address, a slash and a length, such as 10.0.0.0/8 or 2001:db8::/32";
}

/** The prefix of a text that passed checkPrefix. */
export function readPrefix(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === null) throw new TypeError(`unchecked prefix ${quoted(text)}`);
  return prefix;
}

/** The address of a text that passed one of the address checks. */
export function readAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new TypeError(`unchecked address ${quoted(text)}`);
  return address;
}

/** The prefix of a text that passed checkTunnelSource: an address alone is all of its prefix. */
export function readTunnelSource(text: string): Prefix {
  return text.includes("/") ? readPrefix(text) : fixedSource(readAddress(text));
}

/** The milliseconds of a text that passed checkDuration. */
export function readDuration(text: string): number {
  const ms = durationMs(text);
  if (ms === null) throw new TypeError(`unchecked duration ${quoted(text)}`);
  return ms;
}

export function checkHashSeed(text: string): Complaint | null {
  if (new RegExp(HASH_SEED_PATTERN).test(text)) return null;
  const reason = `${quoted(text)} is not a hash seed`;
  if (text.startsWith("file:")) {
    return { reason, hint: "the file has an absolute path: file:/etc/pointsman/seed" };
  }
  return { reason, hint: "16 hexadecimal digits in quotes, or file:/etc/pointsman/seed" };
}

export function readHashSeed(text: string | null): HashSeed {
  if (text === null) return { from: "state" };
  if (text.startsWith("file:")) return { from: "file", path: text.slice("file:".length) };
  return { from: "inline", seed: BigInt(`0x${text}`) };
}

export function formatHashSeed(seed: HashSeed): string | null {
  switch (seed.from) {
    case "state": return null;
    case "file": return `file:${seed.path}`;
    case "inline": return seed.seed.toString(16).padStart(16, "0");
  }
}

export function checkListen(text: string): Complaint | null {
  if (text === "none" || parseEndpoint(text) !== null) return null;
  const reason = `${quoted(text)} is not a listening address`;
  if (/^:?\d+$/.test(text)) {
    return { reason, hint: `name the address too: 127.0.0.1:${text.replace(":", "")}` };
  }
  return { reason, hint: "an address and a port, such as 127.0.0.1:9469 or [::1]:9469, or none" };
}

export function checkMac(text: string): Complaint | null {
  const reason = `${quoted(text)} is not the MAC address of a host`;
  if (!new RegExp(MAC_PATTERN).test(text)) {
    return { reason, hint: "six bytes, such as 02:00:00:00:00:0b" };
  }
  // The lowest bit of the first byte marks group addresses (IEEE 802-2014, 8.2.2).
  if ((Number.parseInt(text.slice(0, 2), 16) & 1) === 1) {
    return { reason, hint: "it is a group address" };
  }
  if (/^[0:]+$/.test(text)) return { reason, hint: "it is all zeros" };
  return null;
}

export function checkInterface(text: string): Complaint | null {
  if (new RegExp(INTERFACE_PATTERN).test(text) && text !== "." && text !== "..") return null;
  return { reason: `${quoted(text)} is not the name of an interface`, hint: "1 to 15 characters, "
    + "such as eth0" };
}

export function checkPath(text: string): Complaint | null {
  if (new RegExp(PATH_PATTERN, "u").test(text)) return null;
  return { reason: `${quoted(text)} is not an absolute path`, hint: "start it with a slash" };
}

export function checkSocketPath(text: string): Complaint | null {
  const complaint = checkPath(text);
  if (complaint !== null) return complaint;
  const bytes = new TextEncoder().encode(text).length;
  if (bytes <= SOCKET_PATH_BYTES_MAX) return null;
  // The kernel would cut it off silently: sun_path has 108 bytes, unix(7).
  const reason =
    `the path has ${bytes} bytes; a socket's path has at most ${SOCKET_PATH_BYTES_MAX}`;
  return { reason, hint: "choose a shorter directory" };
}

/** A text that has to match a pattern, for formats that need no more words than that. */
export function checkPattern(pattern: string, noun: string, hint: string): Check {
  const expression = new RegExp(pattern, "u");
  return (text) => expression.test(text) ? null : {
    reason: `${quoted(text)} is not ${noun}`, hint,
  };
}
