// Which link addresses frames for this host have, by the interface that they come by; and that changing
// them turns no frame away that is for this host before and after.

import { describe, expect, it } from "vitest";
import { record, emptyState, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import {
  addInterfaces, decodeLinkAddress, encodeLinkAddress, firstLinkAddresses, interfacesOf, removeInterfaces,
  type LinkAddress,
} from "../../src/dataplane/xdp/interfaces.ts";
import type { Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import type { Capacities } from "../../src/dataplane/xdp/steps.ts";
import { isForThisHost } from "../../src/model/link_address.ts";

const mac = (last: number): string => `02:00:00:00:00:${last.toString(16).padStart(2, "0")}`;

function link(ifindex: number, of: Partial<Link> = {}): Link {
  return {
    ifindex, name: `eth${ifindex}`, mac: mac(ifindex), mtu: 1500, up: true, loopback: false, arp: true, kind: null, bus: null,
    peer: 0, master: 0, vlan: 0, isBackup: false, xdp: { mode: "none", programId: 0 }, ...of,
  };
}

/** Those of interface 2; null: every frame is for this host. */
function own(links: readonly Link[], more: readonly string[] = []): string[] | null {
  const addresses = [...interfacesOf([2], links, more).linkAddresses!.values()];
  if (addresses.length === 0) return null;
  expect(addresses.filter((each) => each.mac === null)).toEqual([{ ifindex: 2, mac: null }]);
  return addresses.flatMap((each) => each.mac ?? []).sort();
}

describe("the link addresses of an interface", () => {
  it("are its own, and what the config adds", () => {
    expect(own([link(2), link(3)])).toEqual([mac(2)]);
    expect(own([link(2)], [mac(9)])).toEqual([mac(2), mac(9)]);
  });

  it("are not known of one that has none, or is gone: every frame is for this host", () => {
    expect(own([link(2, { mac: null })], [mac(9)])).toBeNull();
    expect(own([link(3)], [mac(9)])).toBeNull();
  });

  it("are those of the bond, team or bridge above, and not of another master", () => {
    for (const kind of ["bond", "team"])
      expect(own([link(2, { master: 5 }), link(5, { kind }), link(3, { master: 5 })])).toEqual([mac(2), mac(5)]);
    expect(own([link(2, { master: 5 }), link(5, { kind: "vrf" })])).toEqual([mac(2)]);
  });

  it("are those of all ports of a bridge, on one of them and on the bridge itself", () => {
    expect(own([link(2, { master: 5 }), link(5, { kind: "bridge" }), link(3, { master: 5 }), link(4)])).toEqual([mac(2), mac(3), mac(5)]);
    expect(own([link(2, { kind: "bridge" }), link(3, { master: 2 })])).toEqual([mac(2), mac(3)]);
    // A VLAN on the other port has its frames by that port.
    const elsewhere = link(6, { kind: "vlan", peer: 3, vlan: 7 });
    expect(own([link(2, { master: 5 }), link(5, { kind: "bridge" }), link(3, { master: 5 }), elsewhere])).toEqual([mac(2), mac(3), mac(5)]);
  });

  it("are those of VLANs and macvlans on it, or on what is above, at any depth", () => {
    const vlan = link(6, { kind: "vlan", peer: 2, vlan: 7 });
    expect(own([link(2), vlan])).toEqual([mac(2), mac(6)]);
    const vrrp = link(7, { kind: "macvlan", peer: 6, mac: "00:00:5e:00:01:0a" });
    expect(own([vrrp, vlan, link(2)])).toEqual(["00:00:5e:00:01:0a", mac(2), mac(6)]);
    const bond = link(5, { kind: "bond" });
    expect(own([link(6, { kind: "vlan", peer: 5, vlan: 7 }), link(2, { master: 5 }), bond])).toEqual([mac(2), mac(5), mac(6)]);
  });

  it("are none of other hosts: of machines, of other namespaces, of what is down", () => {
    expect(own([link(2), link(6, { kind: "macvtap", peer: 2 })])).toEqual([mac(2)]);
    expect(own([link(2), link(6, { kind: "macvlan", peer: 0 })])).toEqual([mac(2)]);
    expect(own([link(2), link(6, { kind: "macvlan", peer: 2, up: false })])).toEqual([mac(2)]);
    expect(own([link(2), link(6, { kind: "veth", peer: 2 })])).toEqual([mac(2)]);
  });

  it("have one of each interface that is compared before any is looked up, as many as there are places", () => {
    const links = [link(2), link(6, { kind: "vlan", peer: 2 }), link(3), link(4, { mac: null }), link(5), link(7), link(8)];
    const firsts = firstLinkAddresses(interfacesOf([2, 3, 4, 5, 7, 8], links, []).linkAddresses!);
    expect([...firsts]).toEqual([2, 3, 5, 7].map((ifindex, place) => [place, { ifindex, mac: mac(ifindex) }]));
  });

  it("are keys and back", () => {
    for (const address of [{ ifindex: 2, mac: mac(2) }, { ifindex: 7, mac: null }])
      expect(decodeLinkAddress(encodeLinkAddress(address))).toEqual(address);
  });
});

/** The rule, on what the kernel holds: what is compared first, then what is looked up. */
function takes({ linkAddresses, firstLinkAddresses }: KernelState, ifindex: number, to: string): boolean {
  if ([...firstLinkAddresses.values()].some((first) => first.ifindex === ifindex && first.mac === to)) return true;
  const of = [...linkAddresses.values()].filter((each) => each.ifindex === ifindex);
  const known = of.some((each) => each.mac === null);
  const hex = new Set(of.flatMap((each) => each.mac?.replaceAll(":", "") ?? []));
  return isForThisHost(known ? hex : null, Buffer.from(to.replaceAll(":", ""), "hex"));
}

describe("a change of link addresses", () => {
  const devices = new Set<number>();
  const views = [
    [], [link(2)], [link(2, { mac: mac(8) })], [link(2), link(6, { kind: "vlan", peer: 2 })], [link(2, { mac: null })],
  ].map((links) => interfacesOf([2], links, []).linkAddresses!);

  function holding(addresses: ReadonlyMap<string, LinkAddress>): KernelState {
    return {
      ...emptyState({} as Capacities, new Set()),
      linkAddresses: new Map(addresses), firstLinkAddresses: firstLinkAddresses(addresses),
    };
  }

  it.each(views.flatMap((from, a) => views.map((to, b) => ({ a, b, from, to }))))(
    "from $a to $b keeps at each step what both take, and takes nothing that neither does", ({ from, to }) => {
      const state = holding(from);
      const all = [mac(2), mac(8), mac(6), mac(9)];
      const kept = all.filter((one) => takes(holding(from), 2, one) && takes(holding(to), 2, one));
      const wanted = all.filter((one) => takes(holding(from), 2, one) || takes(holding(to), 2, one));
      const isLate = from.size === 0 || to.size === 0; // while nothing is known, every frame is for this host
      const take = (step: Parameters<typeof record>[1]): void => {
        record(state, step);
        expect(kept.filter((one) => !takes(state, 2, one)), step.kind).toEqual([]);
        if (!isLate) expect(all.filter((one) => takes(state, 2, one) && !wanted.includes(one)), step.kind).toEqual([]);
      };
      addInterfaces({ state, take }, { devices, linkAddresses: to });
      removeInterfaces({ state, take }, { devices, linkAddresses: to });
      expect(state.linkAddresses).toEqual(to);
      expect(state.firstLinkAddresses).toEqual(firstLinkAddresses(to));
    });
});
