// Probes through bpf/probe.bpf.c by test run: each goes to the backend that its source names, in that
// backend's headers, and nothing else leaves. What becomes of headers is forward.h's, which the golden
// packets show; here it is what goes where.

import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  Destination, Forwarding, NextHopFlags, ProbeKey, ProbePath, ProbeRodata,
} from "../../src/dataplane/xdp/abi.gen.ts";
import { encodeU32 } from "../../src/dataplane/xdp/map_values.ts";
import { loadNative, type BpfObject } from "../../src/dataplane/xdp/native.ts";
import { residuesOf } from "../support/checksums.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, mac, TCP, UDP, type FrameSpec } from "../support/packets.ts";

const DROP = 1;
const REDIRECT = 4;
const ANY = 0;
const LOOPBACK = 1;
const GENERATION = 3;
const VIRTUAL = ipv4(203, 0, 113, 10);
const OWN = ipv4(198, 18, 0, 1);
/** By id. */
const BACKENDS = [1, 2] as const;
const OUTER_PROTOCOL_AT = 14 + 9;
const OUTER_DESTINATION_AT = 14 + 16;

describeKernel("the program of the probes", KERNEL, () => {
  let object: BpfObject;
  beforeAll(() => {
    object = loadNative(ADDON_PATH).BpfObject.open(join(BPF_DIRECTORY, "probe.bpf.o"));
    const initial = object.section(ProbeRodata.section)!;
    object.setSection(ProbeRodata.section, ProbeRodata.encode(initial, { featureIcmpErrors: false, transmitByRedirect: true }));
    object.load();
    object.map("devices").update(encodeU32(LOOPBACK), encodeU32(LOOPBACK), ANY);
    for (const id of BACKENDS) {
      const hop = {
        destinationMac: mac(10 + id), sourceMac: mac(9), mtu: 1500, vlan: 0, ifindex: LOOPBACK,
        flags: NextHopFlags.NEXT_HOP_RESOLVED,
      };
      object.map("destinations").update(encodeU32(id), Destination.encode({
        address: ipv4(10, 0, 0, id), tunnelSource: OWN, identity: 0n, generation: GENERATION, flags: 0,
        port: 0, forwarding: id === 1 ? Forwarding.FORWARDING_IPIP : Forwarding.FORWARDING_GRE,
        nextHopActive: 0, nextHops: [hop, hop], tunnelSourceMask: 0, guePort: 6080, gueVariant: 0, pickWeight: 0,
      }), ANY);
    }
  });
  afterAll(() => { object?.close(); });

  const lead = (port: number, destination: number, generation = GENERATION): void => {
    object.map("probe_paths").update(
      ProbeKey.encode({ address: OWN, port }), ProbePath.encode({ destination, generation, flowHash: port }), ANY,
    );
  };
  const send = (changes: Partial<FrameSpec>): { action: number; frame: Uint8Array } => {
    const frame = frameOf({
      source: OWN, destination: VIRTUAL, protocol: TCP, destinationPort: 80, flags: 2, ...changes,
    });
    const run = object.testRun("probe", frame, { repeat: 1, flags: 0, context: null, outputSizeMax: 2048, batchSize: 0 });
    return { action: run.action, frame: run.output! };
  };

  it("sends each to the backend of its source address and port, wrapped as that backend's packets are", () => {
    lead(50_001, 1);
    lead(50_002, 2);
    for (const [sourcePort, id, protocol] of [[50_001, 1, 4], [50_002, 2, 47]] as const) {
      const { action, frame } = send({ sourcePort });
      expect(action).toBe(REDIRECT);
      expect([...frame.subarray(0, 6)]).toEqual([...mac(10 + id)]);
      expect(frame[OUTER_PROTOCOL_AT]).toBe(protocol);
      expect([...frame.subarray(OUTER_DESTINATION_AT, OUTER_DESTINATION_AT + 4)]).toEqual([10, 0, 0, id]);
      expect(residuesOf(frame)).toEqual({ headers: [0, 0], transport: 0 });
    }
  });

  it("takes the port's later path for its later packets", () => {
    lead(50_003, 1);
    expect(send({ sourcePort: 50_003 }).frame[OUTER_PROTOCOL_AT]).toBe(4);
    lead(50_003, 2);
    expect(send({ sourcePort: 50_003 }).frame[OUTER_PROTOCOL_AT]).toBe(47);
  });

  it("drops what nobody asked for, what is for a backend that has gone, and what is no TCP", () => {
    lead(50_004, 1);
    lead(50_005, 1, GENERATION - 1);
    lead(50_006, 4_000_000);
    const dropped: readonly Partial<FrameSpec>[] = [
      { sourcePort: 50_007 }, { sourcePort: 50_004, source: ipv4(198, 18, 0, 2) }, { sourcePort: 50_005 },
      { sourcePort: 50_006 }, { sourcePort: 50_004, protocol: UDP }, { sourcePort: 50_004, more: true },
      { sourcePort: 50_004, ttl: 64, payload: new Uint8Array(1600) },
    ];
    for (const changes of dropped) expect(send(changes).action, JSON.stringify(changes).slice(0, 80)).toBe(DROP);
    expect(send({ sourcePort: 50_004 }).action).toBe(REDIRECT);
  });
});
