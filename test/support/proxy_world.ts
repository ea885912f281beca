// A proxy plane between real sockets on the loopback: configs, tables, backends and clients for its
// tests. Every port is ephemeral; close() must leave nothing behind, and checks that.

import { NAT } from "./configs.ts";
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { connect, createServer, type AddressInfo, type NetConnectOpts, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect } from "vitest";
import { openProxyPlane } from "../../src/dataplane/proxy/proxy_plane.ts";
import type { Dataplane, PlanePredecessor } from "../../src/dataplane/dataplane.ts";
import { createEnv } from "../../src/env_real.ts";
import type { Env } from "../../src/env.ts";
import { parseAddress, type Address } from "../../src/model/address.ts";
import { compile } from "../../src/model/compile.ts";
import type { BackendConfig, Config, ServiceConfig, ServiceProxyConfig } from "../../src/model/config.ts";
import { type BackendHealth, EMPTY_LEDGER, type ForwardingTable, type Override } from "../../src/model/table.ts";
import { createFakeEnv, type FakeEnv } from "./fake_env.ts";
import { withRegions } from "../../src/model/regions.ts";
import { serviceAt } from "./service_at.ts";

export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`"${text}" is no address`);
  return parsed;
}

const PROXY: ServiceProxyConfig = {
  connectTimeoutMs: 2000, connectRetries: 2, idleTimeoutMs: 0, udpIdleTimeoutMs: 30_000,
  connectionsMax: 1000, sessionsMax: 1000, proxyProtocol: "none",
};

export type ServiceChange = Partial<Omit<ServiceConfig, "proxy" | "network" | "ports">>
  & { proxy?: Partial<ServiceProxyConfig>; address?: string; port?: number | string };

export function service({ address: where, port, ...change }: ServiceChange = {}): ServiceConfig {
  return {
    name: "web", protocol: "tcp", forwarding: "l2",
    gue: { port: 6080, variant: 0 }, algorithm: "maglev", loadFactorPercent: 125, panicBelow: 0, hash: "5-tuple",
    sourcePrefix: { ipv4: 32, ipv6: 128 }, ringSize: 1009, tracking: "full", flowIdleMs: 60_000, changeWindowMs: 60_000, secondChance: false,
    affinityGroup: null, affinityTimeoutMs: null, mssMax: null, quicLb: null, failOpen: false, vip: { assign: "none" },
    pool: "web", split: null, geo: null, region: null,
    policy: { allow: [], deny: [] },
    ...change,
    ...serviceAt(where ?? "127.0.0.1", port ?? 80),
    proxy: { ...PROXY, ...change.proxy },
  };
}

/** As the kernel writes it (proc_pid_limits in fs/proc/base.c). */
function limits(openFilesMax: number): string {
  return [
    "Limit                     Soft Limit           Hard Limit           Units     ",
    "Max processes             95913                95913                processes ",
    `Max open files            ${String(openFilesMax).padEnd(20)} 1048576              files     `, "",
  ].join("\n");
}

export interface Place {
  readonly address: string;
  readonly port: number;
}

export function config(
  services: readonly ServiceConfig[],
  pools: Readonly<Record<string, Readonly<Record<string, Place & { readonly weight?: number; readonly priority?: number; readonly zone?: string }>>>>,
  binding: Partial<Config["dataplane"]["proxy"]> = {},
): Config {
  return {
    version: 1, instance: "test", zone: null,
    dataplane: {
      mode: "proxy", interfaces: [], macs: [], xdp: "auto", hashSeed: { from: "inline", seed: 1n },
      proxy: { bind: "vip", portOffset: 0, drainTimeoutMs: 600_000, ...binding },
      orphan: { afterMs: 30_000, action: "keep" }, probes: { mark: null, table: null },
      tunnelSource: { ipv4: null, ipv6: null }, pathMtuAgeMs: 600_000,
      nat: NAT,
    },
    limits: { services: 64, backends: 1024, flows: 65_536, fragments: 1024, natFlows: 1024, affinities: 1024, icmpErrors: 1000 },
    control: { socket: null, group: null }, observe: { listen: null }, log: { level: "info" }, stateDirectory: null,
    pools: Object.entries(pools).map(([name, backends]) => ({
      name, inline: false, health: { type: "none" }, reserves: { minimum: { count: 1 } }, sorry: null, spillBelow: null, quorum: null,
      backends: Object.entries(backends).map(([backend, place]): BackendConfig => ({
        name: backend, address: address(place.address), port: place.port, weight: place.weight ?? 100,
        hashKey: backend, mac: null, serverIds: [], priority: place.priority ?? 0, zone: place.zone ?? null,
      })),
    })),
    services: services.flatMap(withRegions),
  };
}

/** Compiles tables one after another, as a supervisor does. */
export class TableMaker {
  #last: ForwardingTable | null = null;

  /** `down`: "pool/backend" names that are not alive; `admission`: by name. */
  make(
    wanted: Config, down: readonly string[] = [], admission: Readonly<Record<string, number>> = {},
    overrides: readonly Override[] = [],
  ): ForwardingTable {
    const health = new Map<string, BackendHealth>();
    const base = { known: true, reason: "test", sinceMs: 0 };
    for (const name of down) health.set(name, { ...base, alive: false, admission: 0 });
    for (const [name, share] of Object.entries(admission)) health.set(name, { ...base, alive: true, admission: share });
    this.#last = compile(
      { config: wanted, hashSeed: 1n, overrides, health, nowMs: 0 },
      { ledger: this.#last?.ledger ?? EMPTY_LEDGER, generation: this.#last?.generation ?? 0 },
    );
    return this.#last;
  }
}

/** After each test of the file: what it opened is closed, and no socket is left that was not there before. */
export function leaveNoSockets(close: () => Promise<void>): void {
  let before: Record<string, number>;
  beforeEach(() => { before = openSockets(); });
  afterEach(async () => {
    await close();
    await expect.poll(openSockets).toEqual(before);
  });
}

export interface TcpBackend extends Place {
  readonly name: string;
  readonly sockets: Set<Socket>;
  readonly server: Server;
  /** Connections so far. */
  accepted: number;
}

export interface UdpBackend extends Place {
  readonly name: string;
  readonly socket: DatagramSocket;
  readonly heard: { readonly text: string; readonly from: number }[];
}

/** Everything a test opens, to be closed in the end. */
export class ProxyWorld {
  readonly tables = new TableMaker();
  readonly fake: FakeEnv;
  readonly env: Env;
  readonly #closers: (() => Promise<void>)[] = [];
  #plane: Dataplane | null = null;
  #current: Config | null = null;
  readonly #predecessor: PlanePredecessor | null;

  /** Timers are those of the fake clock with `fakeTime`; sockets are real in any case. */
  constructor(options: {
    fakeTime?: boolean; net?: Partial<Env["net"]>; openFilesMax?: number; predecessor?: PlanePredecessor;
  } = {}) {
    this.#predecessor = options.predecessor ?? null;
    const real = createEnv({ logLevel: "error" });
    const { openFilesMax } = options;
    this.fake = createFakeEnv();
    this.env = {
      ...real, log: this.fake.log, clock: options.fakeTime === true ? this.fake.clock : real.clock,
      net: { ...real.net, ...options.net },
      files: { ...real.files, read: (path) => {
        if (path !== "/proc/self/limits" || openFilesMax === undefined) return real.files.read(path);
        return Buffer.from(limits(openFilesMax));
      } },
    };
  }

  get plane(): Dataplane {
    if (this.#plane === null) throw new Error("the plane is not open");
    return this.#plane;
  }

  async apply(wanted: Config, down: readonly string[] = []): ReturnType<Dataplane["apply"]> {
    const predecessor = this.#predecessor;
    this.#plane ??= await openProxyPlane({ config: wanted, env: this.env, ...(predecessor === null ? {} : { predecessor }) });
    this.#current = wanted;
    return await this.#plane.apply(this.tables.make(wanted, down));
  }

  /** The same config with these backends down. */
  down(...names: string[]): ReturnType<Dataplane["apply"]> {
    if (this.#current === null) throw new Error("nothing was applied");
    return this.apply(this.#current, names);
  }

  async tcpBackend(name: string, onConnection: (socket: Socket) => void, host = "127.0.0.1"): Promise<TcpBackend> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      backend.accepted += 1;
      sockets.add(socket);
      socket.on("error", () => { /* resets are part of the tests */ });
      socket.on("close", () => sockets.delete(socket));
      onConnection(socket);
    });
    await new Promise<void>((resolve) => { server.listen(0, host, resolve); });
    const { port } = server.address() as AddressInfo;
    const backend: TcpBackend = { name, address: host, port, sockets, server, accepted: 0 };
    this.#closers.push(() => closeServer(server, sockets));
    return backend;
  }

  /** Says its name to whoever connects, then echoes. */
  greeter(name: string, host?: string): Promise<TcpBackend> {
    return this.tcpBackend(name, (socket) => {
      socket.write(`${name}\n`);
      socket.pipe(socket);
    }, host);
  }

  async udpBackend(name: string, host = "127.0.0.1"): Promise<UdpBackend> {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const heard: { text: string; from: number }[] = [];
    socket.on("message", (datagram, from) => {
      heard.push({ text: datagram.toString("latin1"), from: from.port });
      socket.send(`${name}:${datagram.toString("latin1")}`, from.port, from.address);
    });
    await new Promise<void>((resolve) => { socket.bind(0, host, resolve); });
    this.#closers.push(() => new Promise((resolve) => { socket.close(() => { resolve(); }); }));
    return { name, address: host, port: socket.address().port, socket, heard };
  }

  client(options: NetConnectOpts): Socket {
    const socket = connect({ allowHalfOpen: true, ...options } as NetConnectOpts);
    socket.on("error", () => { /* tests look at what they expect */ });
    this.#closers.push(() => {
      socket.destroy();
      return Promise.resolve();
    });
    return socket;
  }

  async udpClient(host = "127.0.0.1"): Promise<UdpClient> {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const heard: string[] = [];
    socket.on("message", (datagram) => heard.push(datagram.toString("latin1")));
    await new Promise<void>((resolve) => { socket.bind(0, host, resolve); });
    this.#closers.push(() => new Promise((resolve) => { socket.close(() => { resolve(); }); }));
    return { socket, heard, port: socket.address().port };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
    await this.#plane?.close({ detach: true, drainMs: 0 });
  }
}

export interface UdpClient {
  readonly socket: DatagramSocket;
  readonly heard: string[];
  readonly port: number;
}

function closeServer(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => { resolve(); });
    for (const socket of sockets) socket.destroy();
  });
}

/** A TCP port that nobody has just now. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => { server.listen(0, host, resolve); });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => { server.close(resolve); });
  // A service on the port of its own dead backend would connect to itself.
  if (givenPorts.has(port)) return freePort(host);
  givenPorts.add(port);
  return port;
}

/** The kernel may give a port again once it is closed. */
const givenPorts = new Set<number>();

/** The first line a peer says. */
export function line(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const onData = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (!text.includes("\n")) return;
      socket.removeListener("data", onData);
      resolve(text.slice(0, text.indexOf("\n")));
    };
    socket.on("data", onData);
    socket.once("close", () => { reject(new Error(`closed after "${text}"`)); });
  });
}

/** How the connection ended: everything read until its end, or the error that came instead. */
export function ending(socket: Socket): Promise<{ text: string; end: "fin" | "reset" | "closed"; }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const done = (end: "fin" | "reset" | "closed"): void => {
      resolve({ text: Buffer.concat(chunks).toString("latin1"), end });
    };
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("end", () => { done("fin"); });
    socket.once("error", () => { done("reset"); });
    socket.once("close", () => { done("closed"); });
  });
}

/** Open sockets of this process, by kind. */
export function openSockets(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) {
    if (/^(TCP|UDP)/.test(name)) counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** A UDP port that nobody has just now. */
export async function udpPort(host = "127.0.0.1"): Promise<number> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  await new Promise<void>((resolve) => { socket.bind(0, host, resolve); });
  const { port } = socket.address();
  await new Promise<void>((resolve) => { socket.close(() => { resolve(); }); });
  return port;
}
