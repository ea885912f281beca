// VLAN interfaces: what the kernel says of them, and how a next hop that a route leads to by one leaves: by the
// interface below, with the tag. The messages are written field by field after if_link.h: where the tests run, the
// kernel may have none.

import { describe, expect, it } from "vitest";
import { concatenated, encodeAttribute, u32Bytes } from "../../src/dataplane/xdp/netlink/message.ts";
import { decodeLink, macBytes, NUD, ROUTE_TYPES, type Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { egressTo, wayTo, type Network, type Way } from "../../src/dataplane/xdp/next_hops.ts";
import { address } from "../support/configs.ts";

const BELOW_MAC = "02:00:00:00:00:01";
const VLAN_MAC = "02:00:00:00:00:07";
const MAC = "02:00:00:00:00:0b";
const Q = [0x81, 0x00] as const;
const AD = [0x88, 0xa8] as const;

interface Wanted {
  readonly ifindex: number;
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly more: readonly Uint8Array[];
}

/** struct ifinfomsg, up and running, and its attributes. */
function linkMessage({ ifindex, name, mac, mtu, more }: Wanted): Link {
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, 0x41, true);
  return decodeLink(concatenated(
    header, encodeAttribute(3, Buffer.from(`${name}\0`)), encodeAttribute(1, macBytes(mac)),
    encodeAttribute(4, u32Bytes(mtu)), ...more,
  ))!;
}

/** IFLA_LINK, and IFLA_LINKINFO with IFLA_VLAN_ID in the host's order and IFLA_VLAN_PROTOCOL in the network's. */
function vlan(ifindex: number, below: number, id: number, protocol: readonly [number, number] = Q): Link {
  const data = concatenated(
    encodeAttribute(1, Uint8Array.of(id & 255, id >> 8)), encodeAttribute(5, Uint8Array.from(protocol)),
  );
  const info = concatenated(encodeAttribute(1, Buffer.from("vlan\0")), encodeAttribute(2, data));
  return linkMessage({
    ifindex, name: `eth0.${id}`, mac: VLAN_MAC, mtu: 1400,
    more: [encodeAttribute(5, u32Bytes(below)), encodeAttribute(18, info)],
  });
}

const BELOW = linkMessage({ ifindex: 2, name: "eth0", mac: BELOW_MAC, mtu: 1500, more: [] });
const VLAN = vlan(7, 2, 2748);

function networkOf(links: readonly Link[], by = 7): Network {
  return {
    links: () => links,
    link: (ifindex) => links.find((link) => link.ifindex === ifindex) ?? null,
    route: () => ({ type: ROUTE_TYPES.UNICAST, ifindex: by, gateway: null, source: address("10.0.0.1"), mtu: 0 }),
    neighbour: (ifindex, of) => ifindex === by ? { ifindex, address: of, mac: MAC, state: NUD.REACHABLE } : null,
  };
}

const OPTIONS = { tunnelSource: { ipv4: null, ipv6: null }, fallbackIfindex: 2, interfaces: [] } as const;

function way(links: readonly Link[], mac: string | null = null): Way {
  return wayTo({ address: address("10.0.0.11"), mac, forwarding: "l2" }, networkOf(links),
    OPTIONS);
}

describe("a VLAN interface", () => {
  it("has a number, and is on another interface", () => {
    expect(VLAN).toMatchObject({ kind: "vlan", vlan: 2748, peer: 2, mtu: 1400, mac: VLAN_MAC });
    expect(BELOW.vlan).toBe(0);
    expect(vlan(7, 2, 2748, AD).vlan).toBe(0);
    // IFLA_VXLAN_ID is number 1 too.
    const info = concatenated(
      encodeAttribute(1, Buffer.from("vxlan\0")), encodeAttribute(2, encodeAttribute(1, u32Bytes(42))),
    );
    const vxlan = linkMessage({ ifindex: 9, name: "v", mac: MAC, mtu: 1450, more: [encodeAttribute(18, info)] });
    expect(vxlan).toMatchObject({ kind: "vxlan", vlan: 0 });
  });

  it("sends by the interface below, with the tag, its own link address and MTU", () => {
    for (const mac of [null, MAC]) {
      const { route, text, neighbour } = way([BELOW, VLAN], mac);
      expect(route.nextHop).toEqual({
        resolved: true, local: false, destinationMac: MAC, sourceMac: VLAN_MAC, ifindex: 2, mtu: 1400, vlan: 2748,
      });
      expect(text).toContain(`${MAC} by way of eth0.2748 (on eth0)`);
      expect(neighbour?.ifindex ?? 7).toBe(7);
    }
  });

  it("sends by a port of the bond below", () => {
    const info = encodeAttribute(18, encodeAttribute(1, Buffer.from("bond\0")));
    const bond = linkMessage({ ifindex: 2, name: "bond0", mac: BELOW_MAC, mtu: 1500, more: [info] });
    const port = linkMessage({ ifindex: 3, name: "eth1", mac: BELOW_MAC, mtu: 1500, more: [encodeAttribute(10, u32Bytes(2))] });
    expect(way([bond, port, VLAN]).route.nextHop).toMatchObject({ ifindex: 3, vlan: 2748, sourceMac: VLAN_MAC });
    expect(way([bond, VLAN]).text).toBe("unresolved: bond0 has no port that is up");
  });

  it("leads nowhere, with the reason, where the tag cannot be written", () => {
    const text = (...links: Link[]): string => way(links).text;
    expect(text(VLAN)).toBe("unresolved: eth0.2748 is on an interface of another namespace");
    expect(text(BELOW, vlan(7, 2, 9, AD))).toBe("unresolved: eth0.9 adds tags of another type than 802.1Q");
    expect(text(BELOW, vlan(5, 2, 9), vlan(7, 5, 8))).toBe("unresolved: eth0.8 is a VLAN within another one");
  });

  it("takes translated packets too: answers have their client's tags", () => {
    for (const forwarding of ["nat", "fullnat"] as const) {
      expect(wayTo({ address: address("10.0.0.11"), mac: null, forwarding }, networkOf([BELOW, VLAN]), OPTIONS).route.nextHop)
        .toMatchObject({ resolved: true, ifindex: 2, vlan: 2748 });
    }
  });

  const to = { address: address("10.0.0.11"), forwarding: "l2" } as const;
  /** By eth0, packets arriving on these. */
  const plain = (links: readonly Link[], { mac = null as string | null, interfaces = [] as readonly string[] } = {}): unknown =>
    wayTo({ ...to, mac }, networkOf(links, 2), { ...OPTIONS, interfaces }).route.nextHop.vlan;
  const kind = (text: string): Uint8Array => encodeAttribute(18, encodeAttribute(1, Buffer.from(`${text}\0`)));
  const other = (ifindex: number, name: string, ...more: Uint8Array[]): Link =>
    linkMessage({ ifindex, name, mac: MAC, mtu: 1500, more });

  it("makes of a way by the interface below it one without tags", () => {
    for (const mac of [null, MAC]) {
      expect(plain([BELOW, VLAN], { mac })).toBe("none");
      expect(plain([BELOW, vlan(7, 2, 9, AD)], { mac })).toBe("none");
      expect(plain([BELOW], { mac })).toBe(0);
    }
    // To a link address that no route leads to nobody knows the VLAN.
    const lost = { ...networkOf([BELOW, VLAN], 2), route: () => 101 };
    expect(wayTo({ ...to, mac: MAC }, lost, OPTIONS).route.nextHop).toMatchObject({ resolved: true, ifindex: 2, vlan: 0 });
  });

  it("does so too where packets arrive that leave by an interface without any", () => {
    const links = [BELOW, other(3, "eth1"), vlan(7, 3, 9)];
    expect(plain(links, { interfaces: ["eth1"] })).toBe("none");
    expect(plain(links, { interfaces: ["eth0", "eth1"] })).toBe("none");
  });

  it("is nothing to ways of other interfaces: one of a card for the operator's own use changes no service", () => {
    expect(plain([BELOW, other(3, "eth1"), vlan(7, 3, 9)], { interfaces: ["eth0"] })).toBe(0);
    // On an interface of another namespace.
    expect(plain([BELOW, vlan(7, 0, 9)], { interfaces: ["eth0"] })).toBe(0);
    // At the other end of a veth is another host.
    const [here, there] = [other(2, "eth0", kind("veth"), encodeAttribute(5, u32Bytes(3))), other(3, "eth1", kind("veth"))];
    expect(plain([here, there, vlan(7, 3, 9)])).toBe(0);
  });

  const port = (master: number): Link => other(3, "eth1", encodeAttribute(10, u32Bytes(master)));
  const bond = (ifindex: number): Link => other(ifindex, "bond0", kind("bond"));
  const macvlan = other(2, "mac0", kind("macvlan"), encodeAttribute(5, u32Bytes(3)));
  it.each<readonly [string, readonly Link[], readonly string[]]>([
    ["on the bond that it leaves by", [bond(2), port(2), vlan(7, 2, 9)], []],
    ["on a port of the bridge that it leaves by", [other(2, "br0", kind("bridge")), port(2), vlan(7, 3, 9)], []],
    ["on what the macvlan is on that it leaves by", [macvlan, other(3, "eth1"), vlan(7, 3, 9)], []],
    ["on the bond that packets arrive by", [BELOW, bond(5), port(5), vlan(7, 5, 9)], ["eth1"]],
  ])("counts %s", (_what, links, interfaces) => {
    expect(plain(links, { interfaces })).toBe("none");
    expect(plain(links.slice(0, -1), { interfaces })).toBe(0);
  });

  it("is measured by its own MTU, and judged by the interface below", () => {
    const target = { address: address("10.0.0.11"), mac: null, forwarding: "l2" } as const;
    expect(egressTo(target, networkOf([BELOW, VLAN]), 2)).toEqual({ link: BELOW, mtu: 1400 });
  });
});
