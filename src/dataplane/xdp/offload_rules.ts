// Which offloads keep XDP from working, by mode, and which ones may. Pure: a survey in, findings out. Each rule
// says what of the kernel it stands on.

import type { Finding, Obstacle } from "./finding.ts";
import { isPair, type Device, type Ingress, type Survey, type Wired } from "./survey.ts";

/** A page less head room, the end that the kernel keeps, and the Ethernet header: 4096 - 256 - 320 - 14. */
const ONE_BUFFER_MTU = 3506;

/** What `ethtool -K` calls them. */
const MERGING = { "rx-lro": "lro", "rx-gro-hw": "rx-gro-hw" } as const;
const MERGING_BELOW = { "rx-gro": "gro", ...MERGING } as const;
const SPLITTING = { "tx-tcp-segmentation": "tso", "tx-tcp6-segmentation": "tso", "tx-generic-segmentation": "gso" } as const;
const SUMMING = { "tx-checksum-ip-generic": "tx", "tx-checksum-ipv4": "tx", "tx-checksum-ipv6": "tx" } as const;

/** Those of them that are on, each once; none where nobody knows. */
function active({ offloads }: Device, names: Readonly<Record<string, string>>): string[] {
  if (offloads === null) return [];
  return [...new Set(Object.entries(names).flatMap(([name, short]) => offloads.has(name) ? [short] : []))];
}

function off(interfaceName: string, shorts: readonly string[]): string {
  return `ethtool -K ${interfaceName} ${shorts.map((short) => `${short} off`).join(" ")}`;
}

/** Null: nothing that can be seen from here is in the way. `redirects`: of veth, also back by itself. */
export function nativeObstacle(
  ingress: Ingress, { ingress: attached, egress }: Pick<Survey, "ingress" | "egress">, redirects: boolean,
): Obstacle | null {
  const { link, peer } = ingress;
  const targets = new Map(egress.map((device) => [device.link.ifindex, device]));
  if (redirects) targets.set(link.ifindex, ingress);
  else targets.delete(link.ifindex);
  for (const target of targets.values()) {
    const isAttached = attached.some((each) => each.link.ifindex === target.link.ifindex);
    const obstacle = redirectObstacle(target, isAttached, target === ingress ? peer : null);
    if (obstacle !== null) return obstacle;
  }
  const sums = peer === null || !redirects ? [] : active(peer, SUMMING);
  if (peer === null || sums.length === 0) return null;
  // veth hands the frame over as its sender left it, and a frame has no place to say that the sum is unfinished.
  return {
    found: `${peer.link.name}, the other end of ${link.name}, leaves checksums to be finished by others (tx on), `
      + "and redirected frames go out as they are",
    remedy: off(peer.link.name, sums),
  };
}

/**
 * dev_map_enqueue() refuses interfaces without NDO_XMIT, and nothing counts what is lost. Cards get their queues for it
 * with a program of their own (i40e, ice, ena, virtio_net), so one that will have ours will take them.
 */
function redirectObstacle({ link, xdp }: Device, isAttached: boolean, peer: Device | null): Obstacle | null {
  if (xdp === null || xdp.redirectTarget || !link.up) return null;
  const found = `${link.name} takes no frames that native XDP redirects: `;
  if (link.kind === "veth") {
    const remedy = peer === null ? `ethtool -K PEER gro on (the other end of ${link.name}, in its namespace)`
      : `ethtool -K ${peer.link.name} gro on`;
    return { found: `${found}GRO is off at its other end`, remedy };
  }
  if (!xdp.native) {
    return { found: `${found}its driver (${link.kind ?? "unknown"}) cannot`, remedy: "dataplane.xdp: generic (auto takes it by itself)" };
  }
  return isAttached ? null : {
    found: `${found}its driver does so only with a program of its own`,
    remedy: `name ${link.name} in dataplane.interfaces`,
  };
}

/**
 * The kernel turns off what merges on the interface itself (generic_xdp_install()); not what does so below it. `rewrites`:
 * packets are given other addresses, ports or segment sizes.
 */
export function genericObstacle(ingress: Ingress, rewrites: boolean): Obstacle | null {
  const { link, lowers } = ingress;
  for (const lower of lowers) {
    const merging = active(lower, MERGING_BELOW);
    if (merging.length === 0) continue;
    return {
      found: `${link.name} gets packets that ${lower.link.name} has merged (${merging.join(", ")} on): `
        + "larger than any MTU, they cannot be forwarded",
      remedy: `${off(lower.link.name, merging)}, or name ${lower.link.name} in dataplane.interfaces`,
    };
  }
  for (const each of [ingress, ...lowers]) {
    const splitting = each.peer === null ? [] : active(each.peer, SPLITTING);
    if (each.peer === null || splitting.length === 0) continue;
    return {
      found: `${link.name} gets packets that ${otherEnd(each.peer, each)} leaves for a network card to split `
        + `(${splitting.join(", ")} on): larger than any MTU, they cannot be forwarded`,
      remedy: off(each.peer.link.name, splitting),
    };
  }
  return rewrites ? unfinishedSums(ingress) : null;
}

function otherEnd(peer: Device, { link }: Device): string {
  return `${peer.link.name}, the other end of ${link.name},`;
}

const REWRITTEN = "what nat, fullnat or mssMax changes in such packets leaves them with wrong ones";
/**
 * Packets of a host's own, of its guests and of its containers reach each other by these as they were made:
 * a guest's come by tun, the host's own through an Open vSwitch and over ifb, and nothing on the way finishes a sum.
 */
const PASSING = ["macvlan", "macvtap", "ipvlan", "ipvtap", "tun", "openvswitch", "ifb"];

/**
 * A sum that a card is to finish (CHECKSUM_PARTIAL) is one of the pseudo-header alone, not inverted. Generic XDP sees
 * neither that nor where the sum begins, and what is carried goes the wrong way.
 */
function unfinishedSums(ingress: Ingress): Obstacle | null {
  for (const each of [ingress, ...ingress.lowers]) {
    const obstacle = unfinishedBy(each);
    if (obstacle !== null) return obstacle;
  }
  return null;
}

function unfinishedBy({ link, offloads, peer }: Wired): Obstacle | null {
  const { name, kind, bus, loopback } = link;
  const sums = peer === null ? [] : active(peer, SUMMING);
  if (peer !== null && sums.length > 0) {
    return {
      found: `${otherEnd(peer, { link, offloads, xdp: null })} leaves checksums to be finished by others (tx on), and ${REWRITTEN}`,
      remedy: off(peer.link.name, sums),
    };
  }
  // virtio_net marks what the same machine sent to it as its sender left it (VIRTIO_NET_HDR_F_NEEDS_CSUM).
  if (bus === "virtio" && offloads?.has("rx-checksum") === true) {
    return {
      found: `${name} (virtio) takes packets of the same machine with unfinished checksums (rx on), and ${REWRITTEN}`,
      remedy: `dataplane.xdp: native, or ${off(name, ["rx"])}`,
    };
  }
  if (!loopback && (kind === null || !PASSING.includes(kind))) return null;
  return {
    found: `${name} (${kind ?? "loopback"}) may pass packets with unfinished checksums, and ${REWRITTEN}`,
    remedy: "attach to the network card, or forward by l2 or in a tunnel, without mssMax",
  };
}

/** What unfinishedSums() would be about, if it could be seen. */
function unseenSums(ingress: Ingress): Obstacle | null {
  const all = [ingress, ...ingress.lowers];
  const unseen = all.find(({ link, peer }) => isPair(link) && peer === null)?.link;
  if (unseen !== undefined) {
    return {
      found: `whether the other end of ${unseen.name} leaves checksums to be finished by others cannot be seen from here; `
        + `if so, ${REWRITTEN}`,
      remedy: `ethtool -K PEER tx off (the other end of ${unseen.name}, in its namespace)`,
    };
  }
  // xen-netfront marks what came with XEN_NETRXF_csum_blank so, and a guest cannot refuse such packets: its rx is fixed.
  const xen = all.find(({ link }) => link.bus === "xen")?.link;
  return xen === undefined ? null : {
    found: `${xen.name} (Xen) takes packets of the same machine with unfinished checksums, where its host's end passes them on; `
      + `then ${REWRITTEN}`,
    remedy: `on the host: ethtool -K VIF tx off (its end of ${xen.name})`,
  };
}

/** What may be wrong, and is not seen, where programs run in generic mode. */
export function genericDoubts(survey: Pick<Survey, "ingress">, rewrites: boolean): Finding[] {
  return survey.ingress.flatMap((each) => {
    const doubt = rewrites && genericObstacle(each, rewrites) === null ? unseenSums(each) : null;
    return doubt === null ? [] : [{ level: "warning" as const, name: `generic XDP on ${each.link.name}`, ...doubt }];
  });
}

/** The obstacles, by mode, and what may be in the way and cannot be seen. */
export function offloadFindings(
  survey: Pick<Survey, "ingress" | "egress">, { redirects, rewrites }: { readonly redirects: boolean; readonly rewrites: boolean },
): Finding[] {
  return survey.ingress.flatMap((each) => {
    const { name } = each.link;
    const finding = (mode: string, obstacle: Obstacle | null): Finding[] => obstacle === null ? []
      : [{ level: "warning", name: `${mode} XDP on ${name}`, ...obstacle }];
    return [
      ...finding("native", each.xdp?.native === false ? null : nativeObstacle(each, survey, redirects)),
      ...finding("generic", genericObstacle(each, rewrites)),
      ...finding("native", oneBuffer(each)), ...finding("native", mergingOffloads(each)),
    ];
  });
}

function oneBuffer({ link: { name, mtu }, xdp }: Device): Obstacle | null {
  if (xdp?.native !== true || xdp.fragments || mtu <= ONE_BUFFER_MTU) return null;
  return {
    found: `the driver hands programs frames of one buffer only, and with an MTU of ${mtu} there are larger ones`,
    remedy: `ip link set ${name} mtu ${ONE_BUFFER_MTU}, or less where the driver wants it`,
  };
}

/** Drivers refuse native XDP with it, or turn it off by themselves (mlx5, virtio_net). */
export function mergingOffloads(device: Device): Obstacle | null {
  const merges = device.xdp?.native === true ? active(device, MERGING) : [];
  if (merges.length === 0) return null;
  return {
    found: `the card merges packets (${merges.join(", ")} on), with which drivers may refuse native XDP`,
    remedy: off(device.link.name, merges),
  };
}
