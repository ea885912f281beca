// decide() and explain for services with quicLb: where a connection ID leads, what is remembered, and
// why an ID says nothing. Also that no key is ever shown.

import { describe, expect, it } from "vitest";
import { configView } from "../../src/api/config_view.ts";
import { effectiveConfigText } from "../../src/config/format.ts";
import { withoutKeys } from "../../src/config/formats_quic.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { isFailure } from "../../src/errors.ts";
import { compile } from "../../src/model/compile.ts";
import type { Config } from "../../src/model/config.ts";
import { decide } from "../../src/model/decide.ts";
import type { Decision, FlowEntry, Packet } from "../../src/model/decide.ts";
import { explain } from "../../src/model/explain.ts";
import { hexBytes, hexText } from "../../src/model/hex.ts";
import { encodeCid } from "../../src/model/quic_lb.ts";
import { CID_WINDOW_BYTES } from "../../src/model/quic_route.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { BackendHealth, ForwardingTable, Service } from "../../src/model/table.ts";
import { readQuicKeys } from "../../src/supervisor/quic_keys.ts";
import { address } from "../support/configs.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { QUIC_LB_KEY } from "../support/quic_lb_vectors.ts";

const NOW_NS = 10n ** 15n;
const TEXT = `version: 1
dataplane: { mode: proxy, hashSeed: "0011223344556677" }
services:
  - name: quic
    address: 203.0.113.10
    port: 443
    protocol: udp
    ringSize: 251
    tracking: full
    health: { type: none }
    quicLb:
      configs:
        - { id: 0, serverIdBytes: 3, nonceBytes: 4, key: "${QUIC_LB_KEY}" }
        - { id: 1, serverIdBytes: 8, nonceBytes: 8, key: "file:/quic.key", lengthEncoded: true }
        - { id: 2, serverIdBytes: 1, nonceBytes: 5 }
    backends:
      - { name: a, address: 10.0.0.1, serverIds: [aaaaaa, "aaaaaaaaaaaaaaaa", aa] }
      - { name: b, address: 10.0.0.2, serverIds: [bbbbbb, "bbbbbbbbbbbbbbbb", bb] }
`;

function parsed(text = TEXT): Config {
  const result = parseConfig("quic.yaml", new TextEncoder().encode(text));
  if ("problems" in result) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

function keysRead(config: Config): Config {
  const env = createFakeEnv();
  env.files.writeAtomic("/quic.key", `${QUIC_LB_KEY.toUpperCase()}\n`, 0o600);
  return readQuicKeys(config, "quic.yaml", env);
}

function tableOf(config: Config, down: readonly string[] = []): ForwardingTable {
  const dead: BackendHealth = { alive: false, known: true, admission: 0, reason: "test", sinceMs: 0 };
  const health = new Map(down.map((name) => [name, dead]));
  return compile({ config, hashSeed: 1n, overrides: [], health, nowMs: 0 },
    { ledger: EMPTY_LEDGER, generation: 0 });
}

const CONFIG = keysRead(parsed());
const TABLE = tableOf(CONFIG);
const SERVICE: Service = TABLE.services[0]!;

/** An ID of a server under a config, with a nonce of sevens. */
function cidOf(configId: number, server: "a" | "b" | "c"): Uint8Array {
  const config = SERVICE.quicLb!.configs.get(configId)!;
  const serverId = hexBytes(server.repeat(config.serverIdBytes * 2));
  return encodeCid(config, serverId, new Uint8Array(config.nonceBytes).fill(7), 9);
}

function short(cid: Uint8Array): Uint8Array {
  return Uint8Array.of(0x41, ...cid, ...new Uint8Array(24));
}

function long(cid: Uint8Array): Uint8Array {
  return Uint8Array.of(0xc3, 0, 0, 0, 1, cid.length, ...cid, 0, ...new Uint8Array(24));
}

function decided(
  datagram: Uint8Array | null, flow: FlowEntry | null = null, table = TABLE, port = 5000,
): Decision {
  const packet: Packet = {
    kind: "flow", family: 4, protocol: 17, source: address("198.51.100.7").bytes, sourcePort: port,
    destination: address("203.0.113.10").bytes, destinationPort: 443,
    syn: false, ack: false, fin: false, rst: false, tellable: false, ttl: 64,
    ...(datagram === null ? {} : { datagram }),
  };
  return decide(table, { flow, nowNs: NOW_NS, heartbeatNs: null, neighbour: () => true }, packet);
}

describe("a connection ID", () => {
  it.each([0, 1, 2])("of config %i leads to its backend from every address, in either header", (id) => {
    for (const server of ["a", "b"] as const) {
      for (let port = 1; port <= 40; port += 1) {
        for (const datagram of [short(cidOf(id, server)), long(cidOf(id, server))]) {
          const { destination, how, quic, verdict } = decided(datagram, null, TABLE, port);
          expect([verdict, destination?.name, how?.by, quic])
            .toEqual(["TX_FORWARDED", `quic/${server}`, "connection-id", "routed"]);
        }
      }
    }
  });

  it.each([
    ["no_id", short(cidOf(0, "a")).subarray(0, CID_WINDOW_BYTES)],
    ["no_id", long(cidOf(0, "a")).subarray(0, 25)],
    ["no_id", new Uint8Array(0)],
    // A long header that says a shorter ID than its config has.
    ["no_id", long(cidOf(0, "a").subarray(0, 7))],
    // Config 1 has IDs that say their own length.
    ["no_id", short(cidOf(1, "a").with(0, (1 << 5) | 15))],
    ["no_id", long(Uint8Array.of(...cidOf(1, "a"), 1))],
    ["no_config", short(cidOf(0, "a").with(0, 0xe7))],
    ["no_config", long(cidOf(0, "a").with(0, 0x67))],
    ["no_server", short(cidOf(0, "c"))],
    ["no_server", long(Uint8Array.from({ length: 8 }, (_, at) => at + 1))],
  ] as const)("that says %s leaves it to flow and ring", (quic, datagram) => {
    const decision = decided(datagram);
    expect(decision.quic).toBe(quic);
    expect({ ...decision, quic: undefined }).toEqual({ ...decided(null), quic: undefined });
    expect(decision.how?.by).toBe("ring");
  });

  it("of a backend that is down leaves it to the others", () => {
    const table = tableOf(CONFIG, ["quic/a"]);
    const decision = decided(short(cidOf(0, "a")), null, table);
    expect([decision.quic, decision.destination?.name]).toEqual(["server_down", "quic/b"]);
  });

  it("is remembered for its flow, which then keeps what comes without one", () => {
    const { effects, destination } = decided(short(cidOf(0, "b")));
    expect(effects).toEqual([{ kind: "remember", destination: destination!.id, generation: 1 }]);
    const flow = { destination: destination!.id, generation: 1, lastSeenNs: NOW_NS };
    expect(decided(short(cidOf(0, "b")), flow).effects).toEqual([]);
    const old = { ...flow, lastSeenNs: NOW_NS - 2_000_000_000n };
    expect(decided(short(cidOf(0, "b")), old).effects).toEqual([{ kind: "touch" }]);
  });

  it("never takes a flow from the backend that it has", () => {
    const ids = ["a", "b"].map((name) => [...TABLE.destinations.values()].find((each) => each.backend === name)!.id);
    const flow = { destination: ids[0]!, generation: 1, lastSeenNs: NOW_NS };
    const decision = decided(short(cidOf(0, "b")), flow);
    expect([decision.destination?.id, decision.effects]).toEqual([ids[1], []]);
  });

  it("is not looked at where a service has no quicLb", () => {
    const without = TABLE.services.map((each) => ({ ...each, quicLb: null }));
    const decision = decided(short(cidOf(0, "b")), null, { ...TABLE, services: without });
    expect([decision.how?.by, decision.quic]).toEqual(["ring", undefined]);
  });
});

describe("explain", () => {
  const toOf = ({ services: [service] }: typeof TABLE): { address: ReturnType<typeof address>; port: number } =>
    ({ address: service!.config.network.address, port: service!.config.ports.from });
  const steps = (cid: Uint8Array, table = TABLE): string[] =>
    explain(table, CONFIG, table.services[0]!, { address: address("198.51.100.7"), port: 5000 }, toOf(table), cid)
      .steps.map(({ step, detail }) => `${step}: ${detail}`);

  it("tells the config, the server ID and whose it is", () => {
    expect(steps(cidOf(1, "b")).slice(1)).toEqual([
      `connection ID: ${hexText(cidOf(1, "b"))} names config 1: single-pass, server ID of 8 and nonce of 8 bytes`,
      "server ID: bbbbbbbbbbbbbbbb",
      "routed by ID: it is quic/b's, wherever the packet comes from",
      "verdict: TX_FORWARDED to quic/b at 10.0.0.2:443 by l2",
    ]);
  });

  it("tells why flow and ring decide", () => {
    const said = (cid: Uint8Array, table = TABLE): string =>
      steps(cid, table).find((each) => each.startsWith("fallback"))!;
    expect(said(cidOf(0, "c"))).toBe("fallback: no backend has this server ID, so flow table and ring decide");
    expect(said(cidOf(0, "a").with(0, 0xff))).toMatch(/^fallback: no config has this number/);
    expect(said(cidOf(1, "a").with(0, 0x21))).toMatch(/^fallback: its first byte says a length of 2, and its config asks for 17/);
    expect(said(cidOf(0, "a"), tableOf(CONFIG, ["quic/a"]))).toMatch(/^fallback: the backend with this server ID is not alive/);
    expect(steps(cidOf(0, "c"))).toContainEqual(expect.stringMatching(/^slot: /));
  });
});

describe("keys", () => {
  it("are read from files when a config is accepted", () => {
    expect(hexText(SERVICE.quicLb!.configs.get(1)!.key!)).toBe(QUIC_LB_KEY);
    const unread = tableOf(parsed());
    expect([...unread.services[0]!.quicLb!.configs.keys()]).toEqual([0, 2]);
    expect(unread.warnings).toEqual(["service quic: quicLb config 1: its key file was not read"]);
  });

  it.each([[null, "cannot be read"], ["8f95", "does not hold 32 hexadecimal digits"]])(
    "a file with %s is a problem of the config", (content, reason) => {
      const env = createFakeEnv();
      if (content !== null) env.files.writeAtomic("/quic.key", content, 0o600);
      let thrown: unknown = null;
      try {
        readQuicKeys(parsed(), "quic.yaml", env);
      } catch (error) {
        thrown = error;
      }
      if (!isFailure(thrown, "CONFIG_INVALID")) throw new Error("no problem was found");
      expect(thrown.details.problems).toEqual([expect.objectContaining({
        path: "services[0].quicLb.configs[1].key", reason: `the key file /quic.key ${reason}`,
      })]);
    });

  it("are shown nowhere", () => {
    const digits = new RegExp(QUIC_LB_KEY, "i");
    expect(withoutKeys(TEXT)).not.toMatch(digits);
    expect(withoutKeys(TEXT)).toContain('key: "(hidden)"');
    expect(withoutKeys(`{"key": "${QUIC_LB_KEY}"}`)).toBe('{"key": "(hidden)"}');
    expect(effectiveConfigText(CONFIG)).not.toMatch(digits);
    const view = JSON.stringify(configView(CONFIG));
    expect(view).not.toMatch(digits);
    expect(view).not.toContain("143"); // its first byte as a number
    expect(view).toContain('"key":{"from":"inline","bytes":"(hidden)"}');
    expect(view).toContain('"path":"/quic.key","bytes":"(hidden)"');
  });
});
