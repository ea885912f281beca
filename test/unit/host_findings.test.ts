// What of a host's MTU and offloads does not suit a config: the rules, on networks that are made up. The
// figures are worked out by hand from the header sizes in the RFCs.

import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/parse.ts";
import type { Finding, Obstacle } from "../../src/dataplane/xdp/finding.ts";
import { addressFindings } from "../../src/dataplane/xdp/interfaces.ts";
import { mtuFindings } from "../../src/dataplane/xdp/mtu_rules.ts";
import { encodeAttribute, decodeAttributes } from "../../src/dataplane/xdp/netlink/message.ts";
import { decodeOffloads } from "../../src/dataplane/xdp/netlink/offloads.ts";
import { ROUTE_TYPES, type Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { genericDoubts, genericObstacle, nativeObstacle, offloadFindings } from "../../src/dataplane/xdp/offload_rules.ts";
import { surveyOf, type Device, type Ingress, type Survey, type Wired } from "../../src/dataplane/xdp/survey.ts";
import { tagFindings } from "../../src/dataplane/xdp/tag_rules.ts";
import type { Config } from "../../src/model/config.ts";

function link(ifindex: number, name: string, of: Partial<Link> = {}): Link {
  return {
    ifindex, name, mac: "02:00:00:00:00:01", mtu: 1500, up: true, loopback: false, arp: true, kind: null, bus: null,
    peer: 0, master: 0, vlan: 0, isBackup: false, xdp: { mode: "none", programId: 0 }, ...of,
  };
}

interface Wanted {
  readonly forwarding: string;
  readonly vip?: string;
  readonly backend?: string;
  readonly interfaces?: string;
  readonly icmpErrors?: number;
  readonly more?: string;
}

function configOf({ forwarding, vip, backend, interfaces, icmpErrors, more }: Wanted): Config {
  const parsed = parseConfig("c.yaml", Buffer.from(`version: 1
dataplane: { mode: auto, interfaces: ${interfaces ?? "[eth0]"} }
limits: { icmpErrors: ${icmpErrors ?? 1000} }
pools: { web: { health: { type: none }, backends: [{ name: a, address: "${backend ?? "10.0.0.1"}" }] } }
services:
  - { name: web, address: "${vip ?? "203.0.113.10"}", port: 80, protocol: tcp, forwarding: ${forwarding}, pool: web${more ?? ""} }
`));
  if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}

/** Everything leaves by the interface of this index. */
function survey(config: Config, links: readonly Link[], by: number, routeMtu = 0): Survey {
  return surveyOf(config, {
    links: () => links,
    link: (ifindex) => links.find((each) => each.ifindex === ifindex) ?? null,
    route: () => ({ type: ROUTE_TYPES.UNICAST, ifindex: by, gateway: null, source: null, mtu: routeMtu }),
  }, () => ({ xdp: null, offloads: null }));
}

function findings(wanted: Wanted, mtus: { readonly eth0: number; readonly eth1: number }, routeMtu = 0): Finding[] {
  const config = configOf(wanted);
  const links = [link(2, "eth0", { mtu: mtus.eth0 }), link(3, "eth1", { mtu: mtus.eth1 })];
  return mtuFindings(config, survey(config, links, 3, routeMtu));
}

describe("the MTU on the way to the backends", () => {
  it.each([
    [{ forwarding: "ipip" }, 20],
    [{ forwarding: "ipip", backend: "2001:db8::1" }, 40],
    [{ forwarding: "gre" }, 24],
    [{ forwarding: "gre", backend: "2001:db8::1" }, 44],
    [{ forwarding: "gue" }, 32],
    [{ forwarding: "gue", backend: "2001:db8::1" }, 52],
    [{ forwarding: "gue", more: ", gue: { variant: 1 }" }, 28],
  ])("is too small by the outer headers of %j where it is the clients' own, and enough with them", (wanted, overhead) => {
    const [finding, ...others] = findings(wanted, { eth0: 1500, eth1: 1500 });
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ level: "warning" });
    expect(finding?.found).toContain(`are ${1500 + overhead} with the outer headers, and eth1 carries 1500`);
    expect(finding?.found).toContain(`told by ICMP that ${1500 - overhead} fits`);
    expect(finding?.remedy).toContain(`ip link set eth1 mtu ${1500 + overhead}`);
    expect(finding?.remedy).toContain(`TCP segments of ${1500 - overhead - 40}`);
    expect(findings(wanted, { eth0: 1500, eth1: 1500 + overhead })).toEqual([]);
    expect(findings(wanted, { eth0: 1500, eth1: 1499 + overhead })).toHaveLength(1);
  });

  it("is told for l2 as well, where the clients' side carries more", () => {
    expect(findings({ forwarding: "l2" }, { eth0: 1500, eth1: 1500 })).toEqual([]);
    const [finding] = findings({ forwarding: "l2" }, { eth0: 9000, eth1: 1500 });
    expect(finding?.found).toContain("packets of 9000 bytes, as eth0 brings them, do not fit, since eth1 carries 1500");
    expect(finding?.remedy).toContain("ip link set eth1 mtu 9000");
  });

  it("says that nobody is told where no ICMP errors are sent", () => {
    const [finding] = findings({ forwarding: "ipip", icmpErrors: 0 }, { eth0: 1500, eth1: 1500 });
    expect(finding?.found).toContain("dropped and nobody is told (limits.icmpErrors is 0)");
  });

  it("is the route's where that is less", () => {
    const [finding] = findings({ forwarding: "ipip" }, { eth0: 1500, eth1: 9000 }, 1400);
    expect(finding?.found).toContain("a route by eth1 carries 1400");
    expect(finding?.remedy).toContain("raise the MTU of the route by eth1 to 1520");
    expect(finding?.remedy).not.toContain("ip link set");
  });

  it("is an error where IPv6 has less than 1280 left, and not at 1280", () => {
    const wanted = { forwarding: "ipip", vip: "2001:db8:1::1" };
    const [finding] = findings(wanted, { eth0: 1280, eth1: 1299 });
    expect(finding).toMatchObject({ level: "error" });
    expect(finding?.found).toContain("the 1279 that are left are less than 1280");
    expect(finding?.remedy).toContain("ip link set eth1 mtu 1300");
    expect(findings(wanted, { eth0: 1280, eth1: 1300 })).toEqual([]);
    expect(findings({ forwarding: "ipip" }, { eth0: 1200, eth1: 1299 })).toEqual([]);
  });

  it("of an interface that packets come by too is taken as raised for the outer headers", () => {
    const config = configOf({ forwarding: "ipip" });
    const by = (mtu: number): Finding[] => mtuFindings(config, survey(config, [link(2, "eth0", { mtu })], 2));
    expect(by(1500)).toHaveLength(1);
    expect(by(1520)).toEqual([]);
    expect(by(9000)).toEqual([]);
  });

  it("is not judged where no route leads", () => {
    const config = configOf({ forwarding: "ipip" });
    const nowhere = surveyOf(config, { links: () => [link(2, "eth0")], link: () => null, route: () => 101 },
      () => ({ xdp: null, offloads: null }));
    expect(nowhere.leads).toEqual([]);
    expect(mtuFindings(config, nowhere)).toEqual([]);
  });
});

const CAN = { native: true, redirectTarget: true, fragments: true };

function device(of: Partial<Device> = {}): Device {
  return { link: link(2, "eth0"), xdp: CAN, offloads: new Set(), ...of };
}

function wired(of: Partial<Wired> = {}): Wired {
  return { ...device(), peer: null, ...of };
}

function ingress(of: Partial<Ingress> = {}): Ingress {
  return { ...device(), peer: null, above: null, lowers: [], hasVlans: false, ...of };
}

describe("what keeps native XDP from working", () => {
  const veth = link(2, "veth0", { kind: "veth" });

  const obstacle = (of: Ingress, egress: readonly Device[], redirects: boolean, others: readonly Ingress[] = []): Obstacle | null =>
    nativeObstacle(of, { ingress: [of, ...others], egress }, redirects);

  it("is an interface whose driver takes no redirected frames", () => {
    const bridge = device({ link: link(5, "br0", { kind: "bridge" }), xdp: { native: false, redirectTarget: false, fragments: false } });
    expect(obstacle(ingress(), [bridge], false)?.found).toContain("br0 takes no frames that native XDP redirects");
    expect(obstacle(ingress(), [bridge], false)?.remedy).toContain("dataplane.xdp: generic");
    expect(obstacle(ingress(), [{ ...bridge, xdp: null }], false)).toBeNull();
    expect(obstacle(ingress(), [{ ...bridge, link: { ...bridge.link, up: false } }], false)).toBeNull();
  });

  it("is a card that will have no program, and so no queues for redirected frames; one that will have ours is none", () => {
    const other = ingress({ link: link(3, "eth1"), xdp: { ...CAN, redirectTarget: false } });
    expect(obstacle(ingress(), [other], false)?.remedy).toBe("name eth1 in dataplane.interfaces");
    expect(obstacle(ingress(), [other], false, [other])).toBeNull();
    // Beside a veth everything is redirected, back to the card as well.
    expect(obstacle(ingress({ xdp: { ...CAN, redirectTarget: false } }), [], true, [ingress({ link: veth })])).toBeNull();
  });

  it("is a veth whose other end has no GRO, itself among them; a card sends back by itself", () => {
    const without = ingress({ link: veth, xdp: { ...CAN, redirectTarget: false } });
    expect(obstacle(without, [], true)?.remedy).toContain("ethtool -K PEER gro on (the other end of veth0");
    const peer = device({ link: link(3, "veth1", { kind: "veth" }) });
    expect(obstacle({ ...without, peer }, [], true)?.remedy).toBe("ethtool -K veth1 gro on");
    expect(obstacle(ingress({ link: veth }), [ingress({ link: veth })], true)).toBeNull();
    const card = ingress({ xdp: { ...CAN, redirectTarget: false } });
    expect(obstacle(card, [card], false)).toBeNull();
  });

  it("is the other end of a veth that leaves checksums unfinished", () => {
    const peer = device({ link: link(3, "veth1", { kind: "veth" }), offloads: new Set(["tx-checksum-ip-generic"]) });
    expect(obstacle(ingress({ link: veth, peer }), [], true)?.remedy).toBe("ethtool -K veth1 tx off");
    expect(genericObstacle(ingress({ link: veth, peer }), false)).toBeNull();
  });
});

describe("what keeps generic XDP from working", () => {
  it("is an interface below that merges packets", () => {
    const lower = wired({ link: link(3, "eth1"), offloads: new Set(["rx-gro", "rx-lro", "tx-tcp-segmentation"]) });
    const bond = ingress({ link: link(4, "bond0", { kind: "bond" }), lowers: [wired(), lower] });
    expect(genericObstacle(bond, true)?.remedy).toBe("ethtool -K eth1 gro off lro off, or name eth1 in dataplane.interfaces");
    expect(genericObstacle({ ...bond, lowers: [wired(), { ...lower, offloads: null }] }, true)).toBeNull();
    // On the interface itself the kernel turns it off.
    expect(genericObstacle(ingress({ offloads: new Set(["rx-gro", "rx-lro"]) }), true)).toBeNull();
  });

  it("is the other end of a veth that leaves packets to be split", () => {
    const peer = device({ link: link(3, "veth1", { kind: "veth" }), offloads: new Set(["tx-tcp-segmentation", "tx-generic-segmentation"]) });
    expect(genericObstacle(ingress({ link: link(2, "veth0", { kind: "veth" }), peer }), false)?.remedy).toBe("ethtool -K veth1 tso off gso off");
    // Through a bridge, too.
    const port = wired({ link: link(2, "veth0", { kind: "veth" }), peer });
    expect(genericObstacle(ingress({ link: link(4, "br0", { kind: "bridge" }), lowers: [port] }), false)).toMatchObject({
      found: expect.stringContaining("br0 gets packets that veth1, the other end of veth0") as string,
      remedy: "ethtool -K veth1 tso off gso off",
    });
  });
});

describe("what keeps generic XDP from rewriting", () => {
  const veth = link(2, "veth0", { kind: "veth" });
  const rewriting = (of: Partial<Ingress>): Obstacle | null => genericObstacle(ingress(of), true);

  it("is the other end of a veth that leaves checksums unfinished, and nothing else of it", () => {
    const peer = device({ link: link(3, "veth1", { kind: "veth" }), offloads: new Set(["tx-checksum-ip-generic"]) });
    expect(rewriting({ link: veth, peer })?.remedy).toBe("ethtool -K veth1 tx off");
    expect(rewriting({ link: veth, peer: { ...peer, offloads: new Set() } })).toBeNull();
    expect(genericObstacle(ingress({ link: veth, peer }), false)).toBeNull();
  });

  it("is a guest's card that takes packets of the same machine as they are, itself or below", () => {
    const virtio = { link: link(4, "eth0", { bus: "virtio" }), offloads: new Set(["rx-checksum"]) };
    expect(rewriting(virtio)?.remedy).toBe("dataplane.xdp: native, or ethtool -K eth0 rx off");
    expect(rewriting({ ...virtio, offloads: new Set() })).toBeNull();
    expect(rewriting({ ...virtio, link: link(4, "eth0", { bus: "pci" }) })).toBeNull();
    expect(rewriting({ link: link(5, "br0", { kind: "bridge" }), lowers: [wired(virtio)] })?.found).toContain("eth0 (virtio)");
    expect(genericObstacle(ingress(virtio), false)).toBeNull();
  });

  it("is the other end of a port of a bridge", () => {
    const peer = device({ link: link(3, "veth1", { kind: "veth" }), offloads: new Set(["tx-checksum-ip-generic"]) });
    const bridge = (port: Partial<Wired>): Partial<Ingress> =>
      ({ link: link(5, "br0", { kind: "bridge" }), lowers: [wired({ link: link(4, "eth0") }), wired({ link: veth, ...port })] });
    expect(rewriting(bridge({ peer }))?.remedy).toBe("ethtool -K veth1 tx off");
    expect(rewriting(bridge({ peer: { ...peer, offloads: new Set() } }))).toBeNull();
  });

  it("is the loopback interface, by which a host sends to itself", () => {
    expect(rewriting({ link: link(1, "lo", { loopback: true }) })?.found).toContain("lo (loopback) may pass packets");
  });

  it.each(["macvlan", "macvtap", "ipvlan", "ipvtap", "tun", "openvswitch", "ifb"])("is a %s, which passes packets of the same host on", (kind) => {
    expect(rewriting({ link: link(6, "some0", { kind }) })?.found).toContain(`some0 (${kind}) may pass packets`);
    expect(rewriting({ lowers: [wired({ link: link(6, "some0", { kind }) })] })?.found).toContain("some0");
  });

  it("may be what cannot be seen: the other end of a veth in another namespace", () => {
    const doubts = (of: Partial<Ingress>, rewrites: boolean): string[] =>
      genericDoubts({ ingress: [ingress(of)] }, rewrites).map(({ remedy }) => remedy);
    expect(doubts({ link: veth }, true)).toEqual(["ethtool -K PEER tx off (the other end of veth0, in its namespace)"]);
    expect(doubts({ lowers: [wired({ link: veth })] }, true)).toHaveLength(1);
    expect(doubts({ link: veth }, false)).toEqual([]);
    expect(doubts({ link: veth, peer: device() }, true)).toEqual([]);
    const netkit = link(2, "nk0", { kind: "netkit" });
    expect(doubts({ link: netkit }, true)).toEqual(["ethtool -K PEER tx off (the other end of nk0, in its namespace)"]);
    expect(doubts({ link: netkit, peer: device() }, true)).toEqual([]);
    // Its guest cannot see what the host does, and cannot refuse it.
    const xen = link(2, "eth0", { bus: "xen" });
    expect(doubts({ link: xen, offloads: new Set(["rx-checksum"]) }, true)).toEqual(["on the host: ethtool -K VIF tx off (its end of eth0)"]);
    expect(doubts({ link: xen }, false)).toEqual([]);
    expect(doubts({}, true)).toEqual([]);
  });
});

describe("what is below an interface", () => {
  const names = (links: readonly Link[], of = "[br0]"): unknown[] =>
    survey(configOf({ forwarding: "l2", interfaces: of }), links, 2).ingress.map(({ lowers }) =>
      lowers.map((each) => [each.link.name, each.peer?.link.name ?? null]));
  const port = link(3, "veth0", { kind: "veth", master: 5, peer: 4 });
  const bridge = link(5, "br0", { kind: "bridge" });

  it("are its ports with their other ends, what it is on, and what is below these", () => {
    const links = [link(2, "eth0", { master: 5 }), port, link(4, "veth1", { kind: "veth", peer: 3 }), bridge];
    expect(names(links)).toEqual([[["eth0", null], ["veth0", "veth1"]]]);
    const vlan = link(6, "br0.7", { kind: "vlan", peer: 5, vlan: 7 });
    expect(names([...links, vlan], "[br0.7]")).toEqual([[["br0", null], ["eth0", null], ["veth0", "veth1"]]]);
  });

  it("is nothing of the other end of a veth or netkit", () => {
    for (const kind of ["veth", "netkit"]) {
      const links = [link(2, "one", { kind, peer: 3 }), link(3, "other", { kind, peer: 2, master: 5 }), bridge];
      expect(names(links, "[one]")).toEqual([[]]);
      expect(survey(configOf({ forwarding: "l2", interfaces: "[one]" }), links, 2).ingress[0]?.peer?.link.name).toBe("other");
    }
  });
});

describe("what may keep native XDP from working", () => {
  const told = (of: Partial<Ingress>): string[] =>
    offloadFindings({ ingress: [ingress(of)], egress: [] }, { redirects: false, rewrites: false }).map(({ remedy }) => remedy);

  it("is a card that merges, and one buffer for large frames", () => {
    expect(told({})).toEqual([]);
    expect(told({ offloads: new Set(["rx-lro", "rx-gro-hw", "rx-gro"]) })).toEqual(["ethtool -K eth0 lro off rx-gro-hw off"]);
    expect(told({ link: link(2, "eth0", { mtu: 9000 }), xdp: { ...CAN, fragments: false } }).join()).toContain("mtu 3506");
    expect(told({ link: link(2, "eth0", { mtu: 9000 }) })).toEqual([]);
    expect(told({ xdp: { ...CAN, native: false }, offloads: new Set(["rx-lro"]) })).toEqual([]);
  });
});

describe("VLAN tags that no program sees", () => {
  const told = (of: Partial<Ingress>, mode: "native" | "generic" = "generic"): string[] =>
    tagFindings([ingress({ hasVlans: true, ...of })], mode).map(({ remedy }) => remedy);

  it("are those that a card takes out of the frame, in either mode", () => {
    for (const mode of ["native", "generic"] as const) {
      expect(told({ offloads: new Set(["rx-vlan-hw-parse"]) }, mode)).toEqual(["ethtool -K eth0 rxvlan off"]);
      expect(told({ offloads: new Set(["rx-vlan-hw-parse"]), hasVlans: false }, mode)).toEqual([]);
      expect(told({ offloads: new Set(["rx-vlan-filter"]) }, mode)).toEqual([]);
      expect(told({ offloads: null }, mode)).toEqual([]);
    }
    const found = (mode: "native" | "generic"): string =>
      tagFindings([ingress({ hasVlans: true, offloads: new Set(["rx-vlan-hw-parse"]) })], mode)[0]!.found;
    expect(found("native")).toContain("without their tag");
    expect(found("generic")).toContain("with the tag that it came with");
  });

  it("are of a VLAN on the interface, or on the bond whose port it is", () => {
    const has = (below: number, interfaces: string): boolean[] => survey(configOf({ forwarding: "l2", interfaces }), [
      link(2, "eth0", { master: 5 }), link(3, "eth1"), link(5, "bond0", { kind: "bond" }),
      link(7, "tagged", { kind: "vlan", peer: below, vlan: 7 }),
    ], 3).ingress.map(({ hasVlans }) => hasVlans);
    expect(has(5, "[bond0]")).toEqual([true]);
    expect(has(3, "[eth1]")).toEqual([true]);
    expect(has(0, "[bond0, eth1]")).toEqual([false, false]);
  });

  it("are those that the other end of a veth hands over beside the frame", () => {
    const veth = link(2, "veth0", { kind: "veth" });
    const peer = (on: readonly string[]): Device => device({ link: link(3, "veth1", { kind: "veth" }), offloads: new Set(on) });
    expect(told({ link: veth })).toEqual(["ethtool -K PEER txvlan off tx-vlan-stag-hw-insert off"]);
    expect(told({ link: veth, peer: peer(["tx-vlan-hw-insert"]) })).toEqual(["ethtool -K veth1 txvlan off"]);
    expect(told({ link: veth, peer: peer([]), offloads: new Set(["rx-vlan-hw-parse"]) })).toEqual([]);
  });
});

describe("link addresses of this host that nobody here knows of", () => {
  const told = (kind: string | null, macs: readonly string[] = []): Finding[] => addressFindings(
    survey(configOf({ forwarding: "l2" }), [link(2, "eth0", { master: 5 }), link(5, "above", { kind })], 2), macs);

  it("may be those of what a port belongs to, where its kind is not known; the config can name them", () => {
    expect(told("openvswitch")).toMatchObject([{ level: "warning", remedy: expect.stringContaining("dataplane.macs") as string }]);
    expect(told("openvswitch")[0]!.found).toContain("eth0 is a port of above (openvswitch)");
    expect(told(null)).toHaveLength(1);
    expect(told("openvswitch", ["02:00:00:00:00:09"])).toEqual([]);
  });

  it("are none of a bond, team, bridge or VRF, nor of an interface that is no port", () => {
    for (const kind of ["bond", "team", "bridge", "vrf"]) expect(told(kind)).toEqual([]);
    expect(addressFindings(survey(configOf({ forwarding: "l2" }), [link(2, "eth0")], 2), [])).toEqual([]);
  });
});

describe("the kernel's list of offloads", () => {
  const bit = (name: string): Uint8Array => encodeAttribute(1, encodeAttribute(2, Buffer.from(`${name}\0`)));

  it("is read whole, and null where there is none", () => {
    const bits = encodeAttribute(3, Buffer.concat([bit("rx-gro"), bit("tx-tcp-segmentation")]));
    expect(decodeOffloads(decodeAttributes(encodeAttribute(4, bits)))).toEqual(new Set(["rx-gro", "tx-tcp-segmentation"]));
    expect(decodeOffloads(new Map())).toBeNull();
    expect(decodeOffloads(decodeAttributes(encodeAttribute(4, new Uint8Array())))).toBeNull();
  });
});
