// Datagrams that are too long for the link: they reach one backend whole, and its answers come back
// in pieces too, by each way of forwarding. Real sockets of real kernels make the fragments; those in
// the wrong order are written by hand and sent by perl, which is part of every Debian.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { udpShares, verdictPackets, waitFor } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { parseAddress } from "../../src/model/address.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { frameOf, UDP } from "../support/packets.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const BACKENDS = 3;
const DATAGRAMS = 60;
const DATAGRAM_BYTES = 8192;
/** What a link of 1500 bytes makes of it: of an IPv4 packet 1480 bytes travel in each piece. */
const PIECES = Math.ceil((DATAGRAM_BYTES + 8) / 1480);
const CASES = waysOf("DIRECT", "l2/6", "ipip/4", "gue/6");
/** Sends what it gets in lines of hexadecimal, IP header included, in that order. */
const SENDER = `
  use Socket;
  my ($family, $address) = @ARGV;
  my $domain = $family == 4 ? PF_INET : PF_INET6;
  socket(my $socket, $domain, SOCK_RAW, 255) or die $!;
  my $binary = Socket::inet_pton($domain, $address);
  my $to = $family == 4 ? pack_sockaddr_in(0, $binary) : Socket::pack_sockaddr_in6(0, $binary);
  while (my $line = <STDIN>) {
    chomp $line;
    send($socket, pack("H*", $line), 0, $to) or die $!;
  }`;

function bytesOf(text: string): Uint8Array {
  return parseAddress(text)!.bytes;
}

/** IP packets: the pieces of a datagram to the echo service, the last one first. */
function reversed(lab: Lab, vip: typeof VIP4 | typeof VIP6, id: number): string[] {
  const family = vip === VIP4 ? 4 : 6;
  const source = bytesOf(family === 4 ? lab.client.ipv4 : lab.client.ipv6);
  const whole = {
    family, source, destination: bytesOf(vip), protocol: UDP,
    sourcePort: 40_000, destinationPort: 7,
    payload: new Uint8Array(592).fill(0x61), dontFragment: false, id,
  } as const;
  const header = family === 4 ? 20 : 40;
  const body = frameOf(whole).subarray(14 + header);
  return [400, 200, 0].map((offset) => {
    const piece = { offset: offset / 8, more: offset < 400, id };
    const headers = frameOf({
      ...whole, payload: new Uint8Array(0), protocol: UDP,
      ...(family === 4
        ? { fragmentOffset: piece.offset, more: piece.more }
        : { extensions: [{ type: 44, length: 8, segmentsLeft: 0, fragment: piece }] }),
    }).subarray(14, 14 + header + (family === 4 ? 0 : 8));
    const packet = Buffer.concat([headers, body.subarray(offset, offset + 200)]);
    if (family === 4) packet.writeUInt16BE(packet.length, 2);
    else packet.writeUInt16BE(packet.length - 40, 4);
    return packet.toString("hex");
  });
}

const TOOLS = [...KERNEL, "tool:curl", "tool:ethtool", "tool:perl"] as const;

describeKernel("fragments in the lab", TOOLS, () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let served: ServedLab;
    let lab: Lab;
    beforeAll(async () => {
      served = await serveLab({ label: "fragments-", forwarding, backendFamily, backends: BACKENDS });
      ({ lab } = served);
    });
    afterAll(async () => { await served?.close(); });

    it.each([VIP4, VIP6])("8 KB to %s arrive and come back, from every backend", async (vip) => {
      const before = await verdictPackets(lab, "TX_FORWARDED");
      const shares = await udpShares(lab, vip, DATAGRAMS, DATAGRAM_BYTES);
      expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
      expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(DATAGRAMS);
      // In pieces, then: nothing on the way put them together.
      const forwarded = await verdictPackets(lab, "TX_FORWARDED") - before;
      expect(forwarded).toBeGreaterThanOrEqual(DATAGRAMS * PIECES);
    });

    it.each([VIP4, VIP6] as const)("pieces to %s in reversed order are counted", async (vip) => {
      const passed = await verdictPackets(lab, "PASS_FRAGMENT");
      const lines = reversed(lab, vip, vip === VIP4 ? 0x7001 : 0x70010001);
      await runIn(lab.client.namespace, "perl", ["-e", SENDER, vip === VIP4 ? "4" : "6", vip], {
        input: `${lines.join("\n")}\n`,
      });
      await waitFor("the pieces to be counted", 10_000, async () =>
        await verdictPackets(lab, "PASS_FRAGMENT") === passed + 2);
      // The first came at last, and who comes again now follows it.
      const forwarded = await verdictPackets(lab, "TX_FORWARDED");
      await runIn(lab.client.namespace, "perl", ["-e", SENDER, vip === VIP4 ? "4" : "6", vip], {
        input: `${lines.slice(0, 2).join("\n")}\n`,
      });
      await waitFor("the pieces to be forwarded", 10_000, async () =>
        await verdictPackets(lab, "TX_FORWARDED") === forwarded + 2);
      expect(await verdictPackets(lab, "PASS_FRAGMENT")).toBe(passed + 2);
    });
  });
});
