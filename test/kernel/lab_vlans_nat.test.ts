// Tagged frames of translated flows: requests arrive at their backend, and what it answers, in whatever VLAN, comes
// to the client with the tags that its own packets had. Frames are written and kept as in lab_vlans.test.ts.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { waitFor } from "../../scripts/lab_services.ts";
import { macBytes } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { parseAddress } from "../../src/model/address.ts";
import { parsePacket, type ParsedPacket } from "../../src/model/packet.ts";
import { residuesOf } from "../support/checksums.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { frameOf, put16, TCP, UDP } from "../support/packets.ts";
import { tagsOf } from "../support/rewritten.ts";
import { Captures, keepTagsInFrames } from "./fixtures/captures.ts";
import { linkOf, sendFrame } from "./fixtures/frames.ts";
import { Topology, type TopologyHost } from "./fixtures/topology.ts";

const LAN = 1;
/** Types and control information: of the client, 7 with priority 3, or 9 outside 8; of the backend, none, 5, or two. */
const CLIENTS = [[[0x8100, 0x6007]], [[0x88a8, 0x0009], [0x8100, 0x0008]]] as const;
const BACKENDS = [[], [[0x8100, 0x0005]], [[0x8100, 0x0005], [0x8100, 0x0006]]] as const;
const ACK = 0x10, SYN = 0x02;
type Tags = readonly (readonly [number, number])[];

describeKernel("tagged frames of translated flows in the lab", [...KERNEL, "tool:ethtool", "tool:perl", "tool:clang"], () => {
  describe.each(waysOf("TRANSLATED", "nat/4", "fullnat/6"))("$forwarding by IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const family = backendFamily;
    const vip = family === 4 ? VIP4 : VIP6;
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    let backend: TopologyHost;
    let captures: Captures;
    let atClient: () => Promise<Uint8Array>;
    let atBackend: () => Promise<Uint8Array>;
    let sourcePort = 40_000;

    beforeAll(async () => {
      topology = new Topology(`vlan${forwarding}${family}`);
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

    const bytesOf = (host: TopologyHost): Uint8Array => parseAddress(family === 4 ? host.ipv4 : host.ipv6)!.bytes;

    function frame(from: TopologyHost, tags: Tags, rest: Parameters<typeof frameOf>[0]): Uint8Array {
      const made = frameOf({
        family, tags: tags.map(([type]) => type), payload: new Uint8Array(64).fill(0x61),
        destinationMac: macBytes(linkOf(balancer).address), sourceMac: macBytes(linkOf(from).address), ...rest,
      });
      tags.forEach(([, control], at) => { put16(made, 14 + 4 * at, control); });
      return made;
    }

    /** What arrived, parsed; its sums are right. */
    function read(arrived: Uint8Array): ParsedPacket {
      const packet = parsePacket(arrived);
      if (typeof packet === "string") throw new Error(packet);
      const { headers, transport } = residuesOf(arrived);
      expect([...headers.map((sum) => sum ?? 0), transport ?? 0].every((sum) => sum === 0)).toBe(true);
      return packet;
    }

    const kinds = (["tcp", "udp"] as const).flatMap((protocol) => CLIENTS.map((tags) => ({ protocol, tags, count: tags.length })));
    it.each(kinds)("$protocol with $count tags, and answers with none, one and two", async ({ protocol, tags }) => {
      const number = protocol === "tcp" ? TCP : UDP;
      sourcePort += 1;
      const request = frame(client, tags, {
        protocol: number, source: bytesOf(client), sourcePort, flags: SYN,
        destination: parseAddress(vip)!.bytes, destinationPort: protocol === "tcp" ? 80 : 7,
      });
      sendFrame(client, request);
      const atOnce = await atBackend();
      // The host has no VLAN interfaces: towards backends, tags stay as they came.
      expect(tagsOf(atOnce)).toEqual(tagsOf(request));
      const asked = read(atOnce);
      expect(asked.destination).toEqual(bytesOf(backend));
      for (const back of BACKENDS) {
        sendFrame(backend, frame(backend, back, {
          protocol: number, flags: SYN | ACK, source: asked.destination, destination: asked.source,
          sourcePort: asked.destinationPort, destinationPort: asked.sourcePort,
        }));
        const arrived = await atClient();
        expect(tagsOf(arrived)).toEqual(tagsOf(request));
        expect(read(arrived)).toMatchObject({
          source: parseAddress(vip)!.bytes, destination: bytesOf(client), destinationPort: sourcePort,
        });
      }
    });
  });
});
