// What XDP an interface's driver has, from the netdev family of generic netlink (Linux 6.3 and later;
// Documentation/netlink/specs/netdev.yaml). Knows that one question; null where nobody can answer it.

import type { Native } from "../native.ts";
import { askFamily } from "./generic.ts";
import { attributeU32, encodeAttribute, u32Bytes } from "./message.ts";

const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV = { IFINDEX: 1, XDP_FEATURES: 3 } as const;
/** enum netdev_xdp_act. */
const ACT = { BASIC: 1, NDO_XMIT: 4, RX_SG: 32 } as const;

export interface XdpFeatures {
  /** The driver runs programs itself. */
  readonly native: boolean;
  /** It sends frames that native XDP redirects to it. A veth does where its peer has GRO or a program. */
  readonly redirectTarget: boolean;
  /** Programs get frames in several buffers, so frames may be larger than one. */
  readonly fragments: boolean;
}

export function xdpFeatures(native: Native, ifindex: number): XdpFeatures | null {
  const device = askFamily(native, "netdev", NETDEV_CMD_DEV_GET, encodeAttribute(NETDEV_A_DEV.IFINDEX, u32Bytes(ifindex)));
  const bits = device === null ? null : attributeU32(device, NETDEV_A_DEV.XDP_FEATURES);
  if (bits === null) return null;
  const has = (act: number): boolean => (bits & act) !== 0;
  return { native: has(ACT.BASIC), redirectTarget: has(ACT.NDO_XMIT), fragments: has(ACT.RX_SG) };
}
