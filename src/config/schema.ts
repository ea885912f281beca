// The one definition of the config file: its keys, their types, bounds, defaults and descriptions.
// From it come validation, the published JSON Schema, the defaults and docs/config.md. No
// transforms: values stay what the file says, and convert.ts makes them what the program wants.

import * as z from "zod";
import * as formats from "./formats.ts";
import { algorithmKeys } from "./schema_algorithm.ts";
import { interfacesSchema, macsSchema } from "./schema_interfaces.ts";
import { natSchema } from "./schema_nat.ts";
import { trackingKeys } from "./schema_tracking.ts";
import { duration, hostAddress, integer, name, path, port, text } from "./schema_parts.ts";
import { healthSchema } from "./schema_health.ts";
import { inlineRuleKeys, placeKeys, poolRuleKeys, zoneKey } from "./schema_pool.ts";
import { probesSchema } from "./schema_probes.ts";
import { quicLbSchema, serverIdsSchema } from "./schema_quic.ts";
import { geoSchema } from "./schema_geo.ts";
import { splitSchema } from "./schema_split.ts";

function tunnelSource(family: 4 | 6): z.ZodString {
  const [single, prefix, bounds] = family === 4
    ? ["192.0.2.1", "10.9.0.0/24", "8 to 30"] : ["2001:db8::1", "2001:db8:9::/64", "8 to 126"];
  return text(formats.checkTunnelSource(family), {
    title: `an IPv${family} address or prefix`, examples: [single, prefix],
    description: `Outer IPv${family} source; null: this host's own address towards the backend. A `
      + `prefix of ${bounds} bits, which has to be routed to this host, gives each flow a source `
      + "within it, by the hash of its addresses, ports and protocol (whatever `hash` of the "
      + `service says)${family === 4 ? "" : " in the lowest 32 bits at most, the rest being 0"}, `
      + "so that backends spread tunnels over their receive queues. Its first and last address "
      + "are never used.",
  });
}

function ports(description: string): z.ZodUnion<readonly [z.ZodInt, z.ZodString]> {
  return z.union([
    z.int().meta({ minimum: 1, maximum: 65535 }), z.string().meta({ pattern: formats.PORTS_PATTERN }),
  ]).superRefine((value, context) => {
    const complaint = formats.checkPorts(value);
    if (complaint === null) return;
    context.addIssue(
      { code: "custom", message: complaint.reason, params: { hint: complaint.hint } },
    );
  }).meta({
    title: "a port, a range of ports, or any", description, examples: [443, "8000-8099", "any"],
  });
}

function prefixes(description: string): z.ZodArray<z.ZodString> {
  return z.array(text(formats.checkPrefix, {
    title: "a prefix", examples: ["10.0.0.0/8", "2001:db8::/32"],
  })).meta({ title: "a list of prefixes", description });
}

export const backendSchema = z.strictObject({
  name: name("Unique in its pool; people address it as pool/name."),
  address: hostAddress("Where the backend is. Never an address that a service of this file uses."),
  port: port("Port of the backend; null: the service's. Another one than the service's needs nat "
    + "or fullnat.")
    .nullable().default(null),
  weight: integer(
    "Share of new flows, relative to the pool's other backends; 0: none.", 0, 65535,
  ).default(100),
  hashKey: text(formats.checkPattern(
    "^[^\\p{Cc}]{1,255}$", "a hash key", "1 to 255 printable characters",
  ), {
    title: "a hash key",
    description: "Key of the backend's place in the ring; null: `address:port`, or the address "
      + "alone in an "
      + "affinity group. A new host given its predecessor's key inherits its slots.",
  }).nullable().default(null),
  mac: text(formats.checkMac, {
    title: "a MAC address", description: "Static next hop; null: resolved by the kernel.",
    pattern: formats.MAC_PATTERN, examples: ["02:00:00:00:00:0b"],
  }).nullable().default(null),
  serverIds: serverIdsSchema,
  ...placeKeys,
}).meta({ id: "Backend" });

const backends = z.array(backendSchema);

export const poolSchema = z.strictObject({
  health: healthSchema.prefault({ type: "tcp" }),
  backends: backends.meta(
    { title: "a list of backends", description: "At least one. Their order does not matter." },
  ),
  ...poolRuleKeys,
}).meta({ id: "Pool" });

const proxyService = z.strictObject({
  connectTimeout: duration("Longest wait for a backend to accept.", "1ms", "5m").default("3s"),
  connectRetries: integer("Further choices of the ring after the first failed.", 0, 16).default(2),
  idleTimeout: duration(
    "A TCP connection without a byte for so long is closed; 0s: never.", "0s", "168h",
  ).default("1h"),
  udpIdleTimeout: duration(
    "A UDP session without a datagram for so long is closed.", "10ms", "168h",
  ).default("60s"),
  connectionsMax: integer("TCP connections open at once.", 1, 1_000_000).default(10_000),
  sessionsMax: integer("UDP sessions open at once.", 1, 1_000_000).default(10_000),
  proxyProtocol: z.enum(["none", "v1", "v2"]).default("none").meta({
    description: "PROXY protocol header sent to backends, which tells them the client's address.",
  }),
});

const policy = z.strictObject({
  allow: prefixes("Clients admitted; empty: everybody.").default([]),
  deny: prefixes("Clients refused. Of two prefixes that match, the longer decides.").default([]),
});

export const serviceSchema = z.strictObject({
  name: name("Unique in this file."),
  address: text(formats.checkVirtualAddress, {
    title: "an IP address or a prefix", examples: ["203.0.113.10", "203.0.113.0/28"],
    description: "The virtual address (VIP) that clients use, or a prefix of such addresses, all "
      + "of which have to be routed to this host. Of two services that hold an address, the one "
      + "with the longer prefix has it.",
  }),
  port: ports("The port that clients use: a number, a range such as `8000-8099`, or `any`. Of two "
    + "ranges with one address, one has to be part of the other; the narrower has the port. Where "
    + "there are several, backends get the port that the client used, unless they have one."),
  protocol: z.enum(["tcp", "udp"]).default("tcp").meta({ description: "Transport protocol." }),
  forwarding: z.enum(["l2", "ipip", "gue", "gre", "nat", "fullnat"]).default("l2").meta({
    description: "How packets reach the backend. l2: only MAC addresses change, the backend is on "
      + "the same "
      + "link and holds the VIP on its loopback interface. ipip: in an IP tunnel, the backend "
      + "decapsulates. gue: in UDP, which networks spread over their links by its source port. "
      + "gre: in GRE. nat: to the backend's address and port, from the client's; the backend's way "
      + "back has to lead through this host. fullnat: from an address and port of `dataplane.nat` "
      + "too, so that the backend needs to know nothing.",
  }),
  gue: z.strictObject({
    port: port("Outer UDP destination port.").default(6080),
    variant: z.union([z.literal(0), z.literal(1)]).default(0).meta({
      title: "0 or 1", description: "0: with a GUE header. 1: the IP packet right behind UDP, four "
        + "bytes less.",
    }),
  }).prefault({}).meta({ description: "How `gue` wraps packets (draft-ietf-intarea-gue-09)." }),
  ...algorithmKeys,
  hash: z.enum(["5-tuple", "source-ip"]).default("5-tuple").meta({
    description: "What of a packet chooses the backend: addresses, ports and protocol, or the "
      + "client's address.",
  }),
  sourcePrefix: z.strictObject({
    ipv4: integer("Bits of an IPv4 client address.", 1, 32).default(32),
    ipv6: integer("Bits of an IPv6 client address.", 1, 128).default(128),
  }).prefault({}).meta({ description: "How much of the client's address `source-ip` hashes, and `affinityTimeout` remembers." }),
  ringSize: integer("Slots of the lookup table, a prime.", 7, 2_097_143).default(65_537),
  ...trackingKeys,
  affinityGroup: name(
    "Services of one group send a client to the same host on every port; null: no group.",
  )
    .nullable().default(null),
  affinityTimeout: duration("New flows of a client (an address, or all of a `sourcePrefix`) go to the backend that it has, whatever "
    + "`algorithm` says, until it has sent nothing for so long, or the backend takes no new flows. Default: clients are not "
    + "remembered.", "1s", "720h").optional(),
  quicLb: quicLbSchema,
  mssMax: integer(
    "Largest TCP segment that connections may ask for: larger values in SYNs are lowered, the client's "
      + "and, with nat and fullnat, the backend's. For networks in which larger packets get lost. null: "
      + "as they ask.", 536, 65_495,
  ).nullable().default(null),
  failOpen: z.boolean().default(false).meta({
    description: "With every backend down, treat all of them as up instead of dropping.",
  }),
  panicBelow: integer("With a smaller share of the backends up, in percent, all of them get flows, up or not: better some lost "
    + "than the last few run over. Those that an operator drains do not count; 0: never.", 0, 100).default(0),
  vip: z.strictObject({
    assign: z.enum(["none", "loopback", "interface"]).default("none").meta({
      description: "Who puts the address on this host. none: the operator, or a router sends it "
        + "here. loopback: "
        + "pointsman, on lo. interface: pointsman, on the first of `dataplane.interfaces`, which "
        + "then answers ARP and ND. Either takes CAP_NET_ADMIN; the proxy plane uses the `ip` "
        + "command, and does neither with `dataplane.proxy.bind: loopback`.",
    }),
  }).prefault({}),
  pool: name("Name of the pool; instead of `backends`.").optional(),
  split: splitSchema.optional(),
  geo: geoSchema.optional(),
  backends: backends.optional().meta({
    title: "a list of backends", description: "An inline pool, named after the service; instead "
      + "of `pool`.",
  }),
  health: healthSchema.optional(),
  ...inlineRuleKeys,
  policy: policy.prefault({}).meta({ description: "Which clients may use the service." }),
  proxy: proxyService.prefault({}).meta({ description: "Limits and habits of the proxy plane." }),
}).meta({
  id: "Service", title: "a service",
  oneOf: [{ required: ["pool"] }, { required: ["split"] }, { required: ["backends"] }],
});

const dataplane = z.strictObject({
  mode: z.enum(["auto", "xdp", "proxy"]).default("auto").meta({
    description: "xdp: in the kernel, or not at all. proxy: in this process. auto: xdp where "
      + "possible, else "
      + "proxy, and the reason is announced.",
  }),
  interfaces: interfacesSchema,
  macs: macsSchema,
  xdp: z.enum(["auto", "native", "generic"]).default("auto").meta({
    description: "native: in the driver. generic: in the network stack, slower. auto: native "
      + "where possible.",
  }),
  hashSeed: text(formats.checkHashSeed, {
    title: "a hash seed", pattern: formats.HASH_SEED_PATTERN, examples: [
      "file:/etc/pointsman/seed",
    ],
    description: "Key of the flow hash, the same on every node: 16 hexadecimal digits in quotes, "
      + "or file:PATH; "
      + "null: created once in the state directory.",
  }).nullable().default(null),
  proxy: z.strictObject({
    bind: z.enum(["vip", "loopback", "any"]).default("vip").meta({
      description: "Which address the proxy plane listens on: the VIP itself, the loopback "
        + "address, or any.",
    }),
    portOffset: integer("Added to each service's port when the proxy plane listens.", 0, 65534)
      .default(0),
    drainTimeout: duration("How long connections may go on in the old process after `pointsman "
      + "upgrade`; what is left then is reset.", "0s", "168h").default("10m"),
  }).prefault({}),
  orphan: z.strictObject({
    after: duration(
      "How long the kernel waits for a sign of the supervisor.", "1s", "168h",
    ).default("30s"),
    action: z.enum(["keep", "pass", "drop"]).default("keep").meta({
      description: "What the kernel then does with the packets of services: forward as before, "
        + "leave them to "
        + "the host, or drop them.",
    }),
  }).prefault({}),
  probes: probesSchema,
  tunnelSource: z.strictObject({
    ipv4: tunnelSource(4).nullable().default(null),
    ipv6: tunnelSource(6).nullable().default(null),
  }).prefault({}),
  pathMtuAge: duration(
    "How long a path MTU counts that a router told of a tunnel; 0s: nothing is learned.", "0s", "24h",
  ).default("10m"),
  nat: natSchema.prefault({}),
});

export const configSchema = z.strictObject({
  version: z.literal(1).meta({ description: "Version of this format." }),
  instance: name(
    "Names pins, lock, control socket and state directory; several instances can share a host.",
  )
    .default("main"),
  zone: zoneKey("Where this instance is, for pools with `spillBelow`; null: nowhere in particular."),
  dataplane: dataplane.prefault({}),
  limits: z.strictObject({
    services: integer("Services in this file; each region of one counts as another.", 1, 65_535).default(256),
    backends: integer(
      "Destinations: a backend counts once for each port and way of forwarding.", 1, 32_767,
    )
      .default(4096),
    flows: integer("Flows remembered.", 64, 67_108_864).default(1_048_576),
    fragments: integer(
      "Fragmented datagrams under way: their first fragments' ports are remembered for the later "
        + "ones.", 64, 1_048_576,
    ).default(16_384),
    natFlows: integer("Translated flows under way at once; beyond that, new ones are dropped.",
      64, 33_554_432).default(262_144),
    affinities: integer("Clients that are remembered at once, of services with `affinityTimeout`; beyond that, the one that was "
      + "silent longest is forgotten.", 1024, 16_777_216).default(65_536),
    icmpErrors: integer(
      "ICMP errors (\"fragmentation needed\", \"packet too big\") that each CPU may send in a "
        + "second; 0: none, and what does not fit is dropped without a word.", 0, 1_000_000,
    ).default(1000),
  }).prefault({}).meta({ description: "Sizes of kernel tables, and a rate. "
    + "Tables for policies and for ports of services grow when they need to." }),
  control: z.strictObject({
    socket: path("Control socket; null: /run/pointsman/INSTANCE.sock, or under $XDG_RUNTIME_DIR "
      + "when not root.",
      formats.checkSocketPath).nullable().default(null),
    group: text(formats.checkPattern(
      "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", "a group", "a name or a number",
    ), {
      title: "a group", description: "Group that may use the control socket; null: the process's "
        + "own.",
    }).nullable().default(null),
  }).prefault({}),
  observe: z.strictObject({
    listen: text(formats.checkListen, {
      title: "a listening address", examples: ["127.0.0.1:9469"],
      description: "Metrics and health over HTTP: address and port (0: any free one), or none.",
    }).default("127.0.0.1:9469"),
  }).prefault({}),
  log: z.strictObject({
    level: z.enum(["error", "warn", "info", "debug"]).default("info").meta(
      { description: "Least severity logged." },
    ),
  }).prefault({}),
  stateDirectory: path("Where overrides, revisions and the seed are kept; null: "
    + "/var/lib/pointsman/INSTANCE, or "
    + "under $XDG_STATE_HOME when not root.").nullable().default(null),
  // Names are checked by a rule: a key that zod refuses would hide what is wrong inside the pool.
  pools: z.record(z.string().meta({ pattern: formats.NAME_PATTERN }), poolSchema).default({}).meta({
    title: "a mapping of pools", description: "Pools by name. Probes, rings and drains belong to "
      + "the pool.",
  }),
  services: z.array(serviceSchema).meta(
    { title: "a list of services", description: "What is balanced." },
  ),
}).meta({ description: "One file configures both planes." });

export type RawConfig = z.output<typeof configSchema>;
export type RawService = z.output<typeof serviceSchema>;
export type RawPool = z.output<typeof poolSchema>;
export type RawBackend = z.output<typeof backendSchema>;
