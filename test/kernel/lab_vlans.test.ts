// Tagged frames through a running balancer. This kernel has no VLAN devices, so a packet socket writes the
// frames and an XDP program at the other end keeps them as they come out of the wire: with their tags, which
// nobody on the way may change, in front of what each way of forwarding makes of the packet.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { verdictPackets, waitFor } from "../../scripts/lab_services.ts";
import { macBytes } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { parseAddress } from "../../src/model/address.ts";
import { flowHash } from "../../src/model/flow_hash.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { residuesOf } from "../support/checksums.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { frameOf, ICMP, ICMPV6, put16, TCP, UDP } from "../support/packets.ts";
import { echoed, forwardedByL2, forwardedByTunnel, isAsExpected, type Expected } from "../support/rewritten.ts";
import { Captures, keepTagsInFrames } from "./fixtures/captures.ts";
import { linkOf, sendFrame } from "./fixtures/frames.ts";
import { Topology, type TopologyHost } from "./fixtures/topology.ts";

const LAN = 1;
const SEED = 0x0123456789abcdefn;
/** Of the sender: priority 3 and number 7; 9 outside 8. */
const TAGS = [[[0x8100, 0x6007]], [[0x88a8, 0x0009], [0x8100, 0x0008]]] as const;
const CASES = waysOf("DIRECT", "l2/4", "gre/6");

describeKernel("tagged frames in the lab", [...KERNEL, "tool:ethtool", "tool:perl", "tool:clang"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    let backend: TopologyHost;
    let captures: Captures;
    let atClient: () => Promise<Uint8Array>;
    let atBackend: () => Promise<Uint8Array>;

    beforeAll(async () => {
      topology = new Topology(`vlan${forwarding}${backendFamily}`);
      balancer = topology.balancer("balancer", [{ segment: LAN, last: 1 }]);
      client = topology.client("client", { segment: LAN, last: 2 }, balancer);
      backend = topology.host("web-1", [{ segment: LAN, last: 11 }]);
      keepTagsInFrames(topology.switchOf(LAN), ["balancer", "client", "web-1"]);
      const instance = await topology.run(balancer, {
        forwarding, backendFamily, backends: [backend], health: "{ type: none }",
      });
      await waitFor("the backend's link address", 20_000, async () =>
        (await instance.verb("status", "-o", "json")).includes("resolved: "));
      captures = new Captures();
      atClient = captures.at(client);
      atBackend = captures.at(backend);
    });
    afterAll(async () => {
      captures?.close();
      await topology?.close();
    });

    function taggedFrame(vip: string, tags: typeof TAGS[number], protocol: number): Uint8Array {
      const frame = frameOf({
        family: vip === VIP4 ? 4 : 6, tags: tags.map(([type]) => type),
        destinationMac: macBytes(linkOf(balancer).address), sourceMac: macBytes(linkOf(client).address),
        source: parseAddress(vip === VIP4 ? client.ipv4 : client.ipv6)!.bytes, destination: parseAddress(vip)!.bytes,
        protocol, sourcePort: 40_000, destinationPort: protocol === TCP ? 80 : 7,
        flags: protocol === TCP ? 2 : protocol === ICMP ? 8 : 128, payload: new Uint8Array(64).fill(0x61),
      });
      tags.forEach(([, control], at) => { put16(frame, 14 + 4 * at, control); });
      return frame;
    }

    function expectedOf(frame: Uint8Array): Expected {
      const packet = parsePacket(frame);
      if (typeof packet === "string") throw new Error(packet);
      const source = parseAddress(backendFamily === 4 ? balancer.ipv4 : balancer.ipv6)!.bytes;
      const hop = {
        destinationMac: macBytes(linkOf(backend).address), sourceMac: macBytes(linkOf(balancer).address),
        ifindex: 0, mtu: 0, vlan: 0, resolved: true, local: false, tunnelSource: source, tunnelSourceMask: 0,
      };
      if (forwarding === "l2") return forwardedByL2(frame, packet, hop);
      const hash = flowHash(SEED, packet.source, packet.sourcePort, packet.destination, packet.destinationPort, packet.protocol);
      const destination = parseAddress(backendFamily === 4 ? backend.ipv4 : backend.ipv6)!;
      const isGue = forwarding === "gue" || forwarding === "gue1";
      const gue = isGue ? { port: 6080, variant: forwarding === "gue1" ? 1 : 0 } as const : null;
      return forwardedByTunnel(frame, packet, hop, {
        source, destination, gue, hash, forwarding: isGue ? "gue" : forwarding,
      });
    }

    const kinds = [VIP4, VIP6].flatMap((vip) => TAGS.flatMap((tags) =>
      (["tcp", "udp"] as const).map((protocol) => ({ vip, tags, count: tags.length, protocol }))));
    it.each(kinds)("$protocol to $vip with $count tags arrives with them", async ({ vip, tags, protocol }) => {
      const before = await verdictPackets({ balancer }, "TX_FORWARDED");
      const frame = taggedFrame(vip, tags, protocol === "tcp" ? TCP : UDP);
      sendFrame(client, frame);
      const arrived = await atBackend();
      const expected = expectedOf(frame);
      expect(Buffer.from(arrived.subarray(0, 22)).toString("hex")).toBe(Buffer.from(expected.frame.subarray(0, 22)).toString("hex"));
      expect(isAsExpected(arrived, expected)).toBe(true);
      const { headers, transport } = residuesOf(arrived);
      expect([...headers.map((sum) => sum ?? 0), transport ?? 0].every((sum) => sum === 0)).toBe(true);
      expect(await verdictPackets({ balancer }, "TX_FORWARDED")).toBe(before + 1);
    });

    it.each([VIP4, VIP6])("an echo of %s comes back with its tags", async (vip) => {
      for (const tags of TAGS) {
        const frame = taggedFrame(vip, tags, vip === VIP4 ? ICMP : ICMPV6);
        sendFrame(client, frame);
        const packet = parsePacket(frame);
        if (typeof packet === "string") throw new Error(packet);
        expect(isAsExpected(await atClient(), echoed(frame, packet))).toBe(true);
      }
    });
  });
});
