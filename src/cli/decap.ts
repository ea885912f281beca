// `decap`: runs on a backend, in the foreground, and unwraps tunnelled packets until it is ended. The
// program goes with the process, so what `ps` shows is what the interface does.

import { loadAddon } from "../dataplane/probe.ts";
import { openDecap } from "../dataplane/xdp/decap.ts";
import { Failure } from "../errors.ts";
import type { Prefix } from "../model/address.ts";
import { isLoopback, parseAddress, parsePrefix } from "../model/address.ts";
import { fixedSource, formatTunnelSource } from "../model/tunnel_source.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { table } from "./table.ts";

export interface DecapVerbOptions {
  readonly interface: string;
  readonly address: readonly string[];
  readonly local: readonly string[];
  readonly source: readonly string[];
  readonly secondChance: boolean;
  readonly guePort: number;
  readonly xdp: "auto" | "native" | "generic";
  readonly output: "table" | "json";
}

/** Addresses or prefixes, as the balancers' configuration says them. */
function parseAll(what: "address" | "local" | "source", texts: readonly string[]): Prefix[] {
  return texts.map((text) => {
    const address = parseAddress(text);
    const source = address === null ? parsePrefix(text) : fixedSource(address);
    if (source === null || (address === null && source.text !== text)) {
      const hint = source === null ? "" : `; the prefix is ${source.text}`;
      throw new Failure("REQUEST_INVALID", { path: what },
        `--${what}: "${text}" is neither an IP address nor a prefix such as 10.9.0.0/24${hint}`);
    }
    return source;
  });
}

/** Without them, whoever reaches this host could have it send packets anywhere. */
function demandSources({ secondChance, source }: DecapVerbOptions): void {
  if (!secondChance || source.length > 0) return;
  throw new Failure("REQUEST_INVALID", { path: "second-chance" },
    "--second-chance needs --source: only the balancers may say who else has a connection");
}

/** What keeps packets here whose connection is elsewhere. */
function warnOfForwarding(io: Io, { interface: name, secondChance }: DecapVerbOptions): void {
  if (!secondChance) return;
  for (const [path, key, what] of [
    [`ipv4/conf/${name}`, `net.ipv4.conf.${name}.forwarding`, "IPv4"], ["ipv6/conf/all", "net.ipv6.conf.all.forwarding", "IPv6"],
  ] as const) {
    if (readSetting(io.env, `/proc/sys/net/${path}/forwarding`) !== "0") continue;
    io.err(`warning: this host does not forward ${what}, so no packet in ${what} goes on to another backend:`
      + ` sysctl -w ${key}=1\n`);
  }
}

function readSetting(env: Io["env"], path: string): string | null {
  const bytes = env.files.read(path);
  // Null: no such protocol here.
  return bytes === null ? null : new TextDecoder().decode(bytes).trim();
}

export async function decapVerb(io: Io, options: DecapVerbOptions): Promise<number> {
  demandSources(options);
  const given = parseAll("address", options.address);
  const own = io.env.net.localAddresses().map(parseAddress).filter((address) => address !== null);
  const addresses = given.length > 0 ? given : own.filter((address) => !isLoopback(address)).map(fixedSource);
  const led = parseAll("local", options.local);
  const sources = parseAll("source", options.source);
  const local = led.length > 0 ? led : null;
  const { interface: name, xdp: mode, guePort, secondChance } = options;
  warnOfForwarding(io, options);
  const wanted = { interface: name, mode, guePort, addresses, local, sources, secondChance };
  const decap = openDecap(loadAddon(io.env), io.env, wanted);
  try {
    io.out(`unwrapping on ${options.interface} (${decap.mode} XDP) for ${addresses.map(formatTunnelSource).join(", ")}`
      + (local === null ? "" : `, in tunnels to ${local.map(formatTunnelSource).join(", ")}`)
      + (sources.length === 0 ? ", from any source" : `, from ${sources.map(formatTunnelSource).join(", ")}`)
      + (secondChance ? ", passing on what has no connection here" : "") + "\n");
    await new Promise<void>((resolve) => {
      // An attached program does not keep the process alive; a timer does.
      const alive = io.env.clock.after(2 ** 31, () => undefined, true);
      const end = (): void => { alive(); resolve(); };
      if (io.interrupted.aborted) end();
      else io.interrupted.addEventListener("abort", end, { once: true });
    });
    const counts = [...decap.counts()];
    io.out(options.output === "json"
      ? `${JSON.stringify(Object.fromEntries(counts.map(([name, packets]) => [name, Number(packets)])))}\n`
      : table(["verdict", "packets"], counts.map(([name, packets]) => [name, Number(packets)])));
  } finally {
    decap.close();
  }
  return EXIT.done;
}
