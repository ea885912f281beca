// Where VLAN tags are taken out of frames before a program sees them. Pure: a survey in, findings out.

import type { AttachMode } from "./attach.ts";
import type { Finding } from "./finding.ts";
import type { Offloads } from "./netlink/offloads.ts";
import type { Ingress } from "./survey.ts";

/** What `ethtool -K` calls what takes tags out, and what of a veth's other end never puts them in. */
const TAKING_OUT = { "rx-vlan-hw-parse": "rxvlan", "rx-vlan-stag-hw-parse": "rx-vlan-stag-hw-parse" } as const;
const KEEPING_OUT = { "tx-vlan-hw-insert": "txvlan", "tx-vlan-stag-hw-insert": "tx-vlan-stag-hw-insert" } as const;

/**
 * The kernel carries such a tag beside the frame (skb->vlan_tci). Native XDP never gets it, and what it sends on has
 * none. In generic mode the kernel keeps it, and puts it back whatever the program made of the frame.
 */
const COMES_OF_IT = {
  native: "tagged packets are sent on without their tag",
  generic: "what is sent on leaves with the tag that it came with, whatever the way to the backend says",
} as const satisfies Readonly<Record<AttachMode, string>>;

/** Of interfaces on which programs run in this mode. */
export function tagFindings(ingress: readonly Ingress[], mode: AttachMode): Finding[] {
  return ingress.filter(({ hasVlans }) => hasVlans).flatMap((each): Finding[] => {
    const { name, kind } = each.link;
    const { who, where, shorts } = kind === "veth" ? otherEnd(each)
      : { who: "the card takes VLAN tags out of the frame", where: name, shorts: active(each.offloads, TAKING_OUT) };
    if (shorts.length === 0) return [];
    return [{
      level: "warning", name: `${mode} XDP on ${name}`,
      found: `${who} (${shorts.join(", ")} on), where the program does not see them: ${COMES_OF_IT[mode]}`,
      remedy: `ethtool -K ${where} ${shorts.map((short) => `${short} off`).join(" ")}`,
    }];
  });
}

/** Of a veth in another namespace nothing can be seen; that is how they are made. */
function otherEnd({ link: { name }, peer }: Ingress): { who: string; where: string; shorts: readonly string[] } {
  const who = `the other end of ${name} hands VLAN tags over beside the frame`;
  return peer === null ? { who, where: "PEER", shorts: Object.values(KEEPING_OUT) }
    : { who, where: peer.link.name, shorts: active(peer.offloads, KEEPING_OUT) };
}

function active(offloads: Offloads | null, names: Readonly<Record<string, string>>): string[] {
  return Object.entries(names).flatMap(([name, short]) => offloads?.has(name) === true ? [short] : []);
}
