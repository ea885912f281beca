// The way to a destination, for each thing that the kernel can say about links, routes and neighbours.

import type { Forwarding } from "../../src/model/config.ts";
import { describe, expect, it } from "vitest";
import { LOCAL } from "../../src/dataplane/xdp/image.ts";
import { isResolved, needsProof, wayTo, type Network, type Way } from "../../src/dataplane/xdp/next_hops.ts";
import { NUD, ROUTE_TYPES, type Link, type RouteAnswer } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { parsePrefix } from "../../src/model/address.ts";
import { address } from "../support/configs.ts";

const LINK: Link = {
  ifindex: 2, name: "eth0", mac: "02:00:00:00:00:01", mtu: 1500, up: true, loopback: false, arp: true, kind: null,
  bus: null, peer: 0, master: 0, vlan: 0, isBackup: false, xdp: { mode: "none", programId: 0 },
};
const ROUTE: RouteAnswer = {
  type: ROUTE_TYPES.UNICAST, ifindex: 2, gateway: null, source: address("10.0.0.1"), mtu: 0,
};
const MAC = "02:00:00:00:00:0b";

interface Said {
  readonly link?: Partial<Link> | null;
  readonly route?: Partial<RouteAnswer> | number;
  readonly state?: number;
  readonly mac?: string | null;
  /** Whose state it is. */
  readonly neighbour?: string;
}

function networkOf({ link, route, state, mac, neighbour }: Said): Network {
  return {
    links: () => [{ ...LINK, ...link }],
    link: (ifindex) => link === null || ifindex !== 2 ? null : { ...LINK, ...link },
    route: () => typeof route === "number" ? route : { ...ROUTE, ...route },
    neighbour: (ifindex, of) => state === undefined || of.text !== (neighbour ?? "10.0.0.11") ? null
      : { ifindex, address: of, mac: mac === undefined ? MAC : mac, state },
  };
}

const OPTIONS = { tunnelSource: { ipv4: null, ipv6: null }, fallbackIfindex: 2, interfaces: [] };

function way(said: Said, mac: string | null = null): Way {
  return wayTo({ address: address("10.0.0.11"), mac, forwarding: "ipip" }, networkOf(said), OPTIONS);
}

describe("the way to a destination", () => {
  it("is the neighbour's link address on the route's interface", () => {
    expect(way({ state: NUD.REACHABLE })).toMatchObject({
      route: {
        nextHop: { resolved: true, destinationMac: MAC, sourceMac: LINK.mac, ifindex: 2, mtu: 1500 },
        tunnelSource: { text: "10.0.0.1/32" },
      },
      text: `resolved: ${MAC} by way of eth0`,
    });
  });

  it("goes by a gateway when the route has one", () => {
    const said = { state: NUD.REACHABLE, route: { gateway: address("10.0.0.254") }, neighbour: "10.0.0.254" };
    expect(way(said)).toMatchObject({ text: `resolved: ${MAC} by way of 10.0.0.254 on eth0`, neighbour: { address: { text: "10.0.0.254" } } });
    expect(way({ ...said, neighbour: "10.0.0.11" }).route.nextHop.resolved).toBe(false);
  });

  it("counts every state of a neighbour as what it is", () => {
    const resolved = (state: number): boolean => way({ state }).route.nextHop.resolved;
    for (const state of [NUD.REACHABLE, NUD.STALE, NUD.DELAY, NUD.PROBE, NUD.PERMANENT, NUD.NOARP]) {
      expect(resolved(state)).toBe(true);
    }
    for (const state of [NUD.INCOMPLETE, NUD.FAILED, 0]) expect(resolved(state)).toBe(false);
    expect(way({ state: NUD.FAILED }).text).toContain("nobody answers");
    expect(way({ state: NUD.INCOMPLETE }).text).toContain("being resolved");
    expect(way({}).text).toContain("not known yet");
    expect(way({}).neighbour).toMatchObject({ ifindex: 2, address: { text: "10.0.0.11" }, state: 0 });
  });

  it("needs a link address that is one", () => {
    for (const mac of [null, "00:00:00:00:00:00"]) {
      expect(isResolved({ ifindex: 1, address: address("10.0.0.1"), mac, state: NUD.REACHABLE })).toBe(false);
    }
  });

  it("asks for proof of what grows old, and of nothing that does not", () => {
    for (const state of [NUD.STALE, NUD.FAILED, 0]) expect(needsProof(state)).toBe(true);
    for (const state of [NUD.REACHABLE, NUD.DELAY, NUD.PROBE, NUD.PERMANENT, NUD.NOARP]) expect(needsProof(state)).toBe(false);
  });

  it("is unresolved, with the reason, where none leads", () => {
    const text = (said: Said): string => way({ state: NUD.REACHABLE, ...said }).text;
    expect(text({ route: 101 })).toBe("unresolved: no route (errno 101)");
    expect(text({ route: 22 })).toContain("blackhole");
    expect(text({ route: 13 })).toContain("prohibits");
    expect(text({ route: 113 })).toContain("unreachable");
    expect(text({ route: { type: ROUTE_TYPES.MULTICAST } })).toContain("not unicast");
    expect(text({ link: null })).toContain("gone");
    expect(text({ link: { up: false } })).toContain("eth0 is down");
    expect(text({ link: { mac: null } })).toContain("no link address");
  });

  it("ends on this host where the address is its own, whatever the config says of a link address", () => {
    for (const mac of [null, "02:00:00:00:0b:0b"]) {
      const { route, text, neighbour } = way({ route: { type: ROUTE_TYPES.LOCAL } }, mac);
      expect(route).toEqual({ nextHop: LOCAL, tunnelSource: null });
      expect(text).toContain("local: this host has the address itself");
      expect(neighbour).toBeNull();
    }
  });

  it("takes the smaller of the interface's and the route's MTU, as far as IP can say it", () => {
    const mtu = (said: Said): number => way({ state: NUD.REACHABLE, ...said }).route.nextHop.mtu;
    expect(mtu({ route: { mtu: 1400 } })).toBe(1400);
    expect(mtu({ route: { mtu: 9000 } })).toBe(1500);
    expect(mtu({ link: { mtu: 65_536 } })).toBe(65_535);
  });

  it("is the config's when it names a link address, also without a route", () => {
    const own = "02:00:00:00:0b:0b";
    expect(way({}, own)).toMatchObject({ route: { nextHop: { resolved: true, destinationMac: own, ifindex: 2 } }, neighbour: null });
    expect(way({ route: 101 }, own)).toMatchObject({ route: { nextHop: { resolved: true, ifindex: 2 }, tunnelSource: null } });
    expect(way({ link: { up: false } }, own).route.nextHop.resolved).toBe(false);
  });

  it("has the config's outer source before the route's, and none of another family", () => {
    const source = (ipv4: string | null, said: Said = {}, forwarding: Forwarding = "ipip"): string | undefined => wayTo(
      { address: address("10.0.0.11"), mac: null, forwarding }, networkOf({ state: NUD.REACHABLE, ...said }),
      { ...OPTIONS, tunnelSource: { ipv4: ipv4 === null ? null : parsePrefix(ipv4), ipv6: parsePrefix("2001:db8::/64") } },
    ).route.tunnelSource?.text;
    expect(source("192.0.2.9/32")).toBe("192.0.2.9/32");
    // What is translated comes from this host, whatever tunnels come from.
    expect(source("192.0.2.9/32", {}, "fullnat")).toBe(source(null));
    expect(source("192.0.2.0/24")).toBe("192.0.2.0/24");
    expect(source(null)).toBe("10.0.0.1/32");
    expect(source(null, { route: { source: address("fd00::1") } })).toBeUndefined();
    expect(source("192.0.2.9/32", { route: 101 })).toBe("192.0.2.9/32");
  });
});
