// Bonds: what the kernel says of them and of their ports, where programs go, and by which port a next hop leaves.
// The messages are written field by field after if_link.h and bond_netlink.c: where the tests run, there may be no
// bonding driver.

import { describe, expect, it } from "vitest";
import { bondCheck } from "../../src/dataplane/probe_interfaces.ts";
import { findInterfaces } from "../../src/dataplane/xdp/attach.ts";
import { addressHolder, attachable, leavesBy } from "../../src/dataplane/xdp/bonds.ts";
import { concatenated, encodeAttribute, u32Bytes } from "../../src/dataplane/xdp/netlink/message.ts";
import {
  decodeLink, macBytes, NUD, ROUTE_TYPES, type Link,
} from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { egressTo, wayTo, type Network, type Way } from "../../src/dataplane/xdp/next_hops.ts";
import { address } from "../support/configs.ts";

const UP_RUNNING = 0x41;
const ACTIVE = 0;
const BACKUP = 1;
const LINK_UP = 0;
const LINK_DOWN = 2;
const BOND_MAC = "02:00:00:00:00:b0";
const MAC = "02:00:00:00:00:0b";

function text(value: string): Uint8Array {
  return Buffer.from(`${value}\0`);
}

/** struct ifinfomsg and its attributes. */
function linkMessage(ifindex: number, name: string, mac: string, more: readonly Uint8Array[], flags = UP_RUNNING): Link {
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, flags, true);
  return decodeLink(concatenated(
    header, encodeAttribute(3, text(name)), encodeAttribute(1, macBytes(mac)), encodeAttribute(4, u32Bytes(1500)), ...more,
  ))!;
}

/** IFLA_LINKINFO with IFLA_INFO_KIND "bond". */
function bond(ifindex: number, name: string): Link {
  return linkMessage(ifindex, name, BOND_MAC, [encodeAttribute(18, encodeAttribute(1, text("bond")))]);
}

/** IFLA_MASTER, and IFLA_LINKINFO with IFLA_INFO_SLAVE_KIND "bond" and IFLA_INFO_SLAVE_DATA. */
function port(ifindex: number, name: string, master: number, state: number, mii: number, flags = UP_RUNNING): Link {
  const data = concatenated(
    encodeAttribute(1, Uint8Array.of(state)), encodeAttribute(2, Uint8Array.of(mii)), encodeAttribute(3, u32Bytes(0)),
  );
  const info = concatenated(encodeAttribute(4, text("bond")), encodeAttribute(5, data));
  return linkMessage(ifindex, name, BOND_MAC, [encodeAttribute(10, u32Bytes(master)), encodeAttribute(18, info)], flags);
}

const BOND = bond(5, "bond0");
const ETH1 = port(3, "eth1", 5, ACTIVE, LINK_UP);
const ETH2 = port(2, "eth2", 5, ACTIVE, LINK_UP);
const LONE = linkMessage(7, "eth7", "02:00:00:00:00:07", []);
const LINKS = [BOND, ETH1, ETH2, LONE];

describe("what the kernel says of bonds", () => {
  it("is who is one, and who is whose port, in use or not", () => {
    expect(BOND).toMatchObject({ name: "bond0", kind: "bond", master: 0, isBackup: false, up: true });
    expect(ETH1).toMatchObject({ name: "eth1", kind: null, master: 5, isBackup: false, up: true });
    expect(port(3, "eth1", 5, BACKUP, LINK_UP).isBackup).toBe(true);
    expect(port(3, "eth1", 5, ACTIVE, LINK_DOWN).isBackup).toBe(true);
  });

  it("is not mistaken in what it says of the ports of bridges", () => {
    // IFLA_BRPORT_STATE is number 1 there, and 1 is listening.
    const data = encodeAttribute(1, Uint8Array.of(1));
    const info = concatenated(encodeAttribute(4, text("bridge")), encodeAttribute(5, data));
    const of = linkMessage(3, "eth1", MAC, [encodeAttribute(10, u32Bytes(9)), encodeAttribute(18, info)]);
    expect(of).toMatchObject({ master: 9, isBackup: false });
  });
});

describe("where programs go", () => {
  it("is a bond's ports, and everything else itself", () => {
    expect(attachable(BOND, LINKS)).toEqual([ETH2, ETH1]);
    expect(attachable(LONE, LINKS)).toEqual([LONE]);
    expect(findInterfaces(["bond0", "eth7"], LINKS)).toEqual([ETH2, ETH1, LONE]);
    expect(findInterfaces(["eth1", "bond0"], LINKS)).toEqual([ETH1, ETH2]);
  });

  it("is nowhere for a bond without ports, which says what to do", () => {
    expect(() => findInterfaces(["bond0"], [BOND, LONE])).toThrow(
      "bond0 is a bond, whose program goes to its ports, and it has none: \"ip link set PORT master bond0\"");
    expect(() => findInterfaces(["bond1"], LINKS)).toThrow("there is no interface bond1");
    expect(bondCheck(BOND, [BOND, LONE])).toMatchObject({ ok: false, found: "a bond without ports" });
  });

  it("is told by doctor", () => {
    const links = [BOND, ETH1, port(2, "eth2", 5, BACKUP, LINK_UP)];
    expect(bondCheck(BOND, links)).toEqual({
      name: "interface bond0", ok: true, level: "ok", remedy: null,
      found: "a bond: XDP is attached to its ports, eth2 (not in use now) and eth1",
    });
  });

  it("is not where addresses go: those are the bond's", () => {
    expect(addressHolder(ETH1, LINKS)).toBe(BOND);
    expect(addressHolder(BOND, LINKS)).toBe(BOND);
    expect(addressHolder(LONE, LINKS)).toBe(LONE);
    const bridge: Link = { ...BOND, kind: "bridge" };
    expect(addressHolder(ETH1, [bridge, ETH1])).toBe(ETH1);
  });
});

describe("the port by which a next hop leaves", () => {
  const ports = (links: readonly Link[]): (string | undefined)[] =>
    [11, 12, 13, 14].map((last) => leavesBy(BOND, links, address(`10.0.0.${last}`))?.name);

  it("is spread over those in use by the neighbour, and stays", () => {
    expect(ports(LINKS)).toEqual(ports([...LINKS].reverse()));
    expect(new Set(ports(LINKS))).toEqual(new Set(["eth1", "eth2"]));
    expect(leavesBy(LONE, LINKS, address("10.0.0.1"))).toBe(LONE);
  });

  it.each([
    ["backup", port(2, "eth2", 5, BACKUP, LINK_UP)],
    ["without a link, says the bond", port(2, "eth2", 5, ACTIVE, LINK_DOWN)],
    ["without a carrier", port(2, "eth2", 5, ACTIVE, LINK_UP, 0x1)],
    ["of another bond", port(2, "eth2", 6, ACTIVE, LINK_UP)],
  ])("is never one that is %s", (_what, other) => {
    expect(new Set(ports([BOND, ETH1, other]))).toEqual(new Set(["eth1"]));
  });
});

describe("the way by a bond", () => {
  const way = (links: readonly Link[], mac: string | null = null): Way => wayTo(
    { address: address("10.0.0.11"), mac, forwarding: "l2" }, networkOf(links),
    { tunnelSource: { ipv4: null, ipv6: null }, fallbackIfindex: 5, interfaces: [] },
  );
  const networkOf = (links: readonly Link[]): Network => ({
    links: () => links,
    link: (ifindex) => links.find((link) => link.ifindex === ifindex) ?? null,
    route: () => ({ type: ROUTE_TYPES.UNICAST, ifindex: 5, gateway: null, source: address("10.0.0.1"), mtu: 0 }),
    neighbour: (ifindex, of) => ifindex === 5 ? { ifindex, address: of, mac: MAC, state: NUD.REACHABLE } : null,
  });

  it("leaves by a port, with the port's link address, and asks for the neighbour on the bond", () => {
    for (const mac of [null, MAC]) {
      const { route, text: said, neighbour } = way([BOND, ETH1], mac);
      expect(route.nextHop).toEqual({
        resolved: true, local: false, destinationMac: MAC, sourceMac: BOND_MAC, ifindex: 3, mtu: 1500, vlan: 0,
      });
      expect(said).toContain(`${MAC} by way of bond0 (port eth1)`);
      expect(neighbour?.ifindex ?? 5).toBe(5);
    }
  });

  it("follows when the port in use is another one", () => {
    const before = way([BOND, ETH1, port(2, "eth2", 5, BACKUP, LINK_UP)]);
    const after = way([BOND, port(3, "eth1", 5, BACKUP, LINK_DOWN), port(2, "eth2", 5, ACTIVE, LINK_UP)]);
    expect([before.route.nextHop.ifindex, after.route.nextHop.ifindex]).toEqual([3, 2]);
  });

  it("leads nowhere while no port is in use", () => {
    const { route, text: said } = way([BOND, port(3, "eth1", 5, ACTIVE, LINK_DOWN)]);
    expect(route.nextHop.resolved).toBe(false);
    expect(said).toBe("unresolved: bond0 has no port that is up");
  });

  it("is measured and judged by the port", () => {
    const target = { address: address("10.0.0.11"), mac: null, forwarding: "l2" } as const;
    expect(egressTo(target, networkOf([BOND, ETH1]), 5)?.link).toBe(ETH1);
    expect(egressTo(target, networkOf([BOND]), 5)?.link).toBe(BOND);
  });
});
