// The rtnetlink codec on messages that a kernel really sent, and on requests that it is known to take.

import { describe, expect, it } from "vitest";
import {
  concatenated, decodeAttributes, decodeMessages, encodeAttribute, encodeMessage, errorOf, FLAG_ACK, FLAG_REQUEST,
} from "../../src/dataplane/xdp/netlink/message.ts";
import {
  covers, decodeEvent, decodeRoute, encodeAddress, encodeNeighbourUse, encodeRouteRequest, macBytes, NUD, ROUTE_TYPES,
  RTM,
} from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import * as captured from "../support/netlink_captures.ts";
import { address } from "../support/configs.ts";

function only(bytes: Uint8Array): ReturnType<typeof decodeMessages>[number] {
  const messages = decodeMessages(bytes);
  expect(messages).toHaveLength(1);
  return messages[0]!;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

describe("netlink messages", () => {
  it("come back from bytes as they went in", () => {
    const message = { type: 18, flags: 0x301, sequence: 77, payload: Uint8Array.of(1, 2, 3, 4, 5) };
    const bytes = encodeMessage(message);
    expect(bytes.length).toBe(24);
    expect(decodeMessages(bytes)).toEqual([message]);
    expect(hex(encodeMessage(only(captured.ROUTE_GATEWAY)))).toBe(hex(captured.ROUTE_GATEWAY));
  });

  it("come several to a datagram", () => {
    const datagram = concatenated(captured.NEIGHBOUR_PERMANENT, captured.NEIGHBOUR_STALE);
    expect(decodeMessages(datagram).map(({ type }) => type)).toEqual([RTM.NEWNEIGH, RTM.NEWNEIGH]);
  });

  it("say errors as positive errnos, and 0 for an acknowledgement", () => {
    expect(errorOf(only(captured.NO_ROUTE))).toBe(101);
    expect(errorOf(only(captured.ACKNOWLEDGEMENT))).toBe(0);
    expect(errorOf(only(captured.ROUTE_GATEWAY))).toBeNull();
  });

  it("with lengths that do not fit are refused", () => {
    const long = captured.NEIGHBOUR_STALE.slice();
    long[0] = 0xff;
    expect(() => decodeMessages(long)).toThrow(RangeError);
    const short = captured.NEIGHBOUR_STALE.slice();
    short[0] = 15;
    expect(() => decodeMessages(short)).toThrow(RangeError);
    expect(() => decodeAttributes(Uint8Array.of(9, 0, 1, 0, 0))).toThrow(RangeError);
  });

  it("hold attributes whose flags are not part of the type", () => {
    const bytes = concatenated(encodeAttribute(0x8000 | 5, Uint8Array.of(1)), encodeAttribute(6, Uint8Array.of(2, 3)));
    expect(decodeAttributes(bytes)).toEqual(new Map([[5, Uint8Array.of(1)], [6, Uint8Array.of(2, 3)]]));
  });
});

describe("rtnetlink events", () => {
  it("say what an interface is", () => {
    expect(decodeEvent(only(captured.LINK))).toEqual({
      kind: "link", gone: false,
      link: {
        ifindex: 3, name: "veth0", mac: "02:00:00:00:01:01", mtu: 1500, up: true, loopback: false, arp: true,
        kind: "veth", bus: null, peer: 2, master: 0, vlan: 0, isBackup: false, xdp: { mode: "none", programId: 0 },
      },
    });
  });

  it("say addresses of both families", () => {
    const event = (bytes: Uint8Array): unknown => {
      const decoded = decodeEvent(only(bytes));
      return decoded?.kind === "address" ? { ...decoded.address, address: decoded.address.address.text } : decoded;
    };
    const unmarked = { protocol: 0, metric: 0 };
    expect(event(captured.ADDRESS_LOOPBACK))
      .toEqual({ ifindex: 1, address: "203.0.113.10", length: 32, ...unmarked });
    expect(event(captured.ADDRESS_IPV4))
      .toEqual({ ifindex: 3, address: "10.1.0.1", length: 24, ...unmarked });
    expect(event(captured.ADDRESS_IPV6))
      .toEqual({ ifindex: 3, address: "fd00:1::1", length: 64, ...unmarked });
  });

  it("say neighbours and their states", () => {
    expect(decodeEvent(only(captured.NEIGHBOUR_PERMANENT))).toEqual({
      kind: "neighbour", gone: false,
      neighbour: { ifindex: 3, address: address("10.1.0.11"), mac: "02:00:00:00:01:02", state: NUD.PERMANENT },
    });
    expect(decodeEvent(only(captured.NEIGHBOUR_STALE))).toMatchObject({
      neighbour: { address: { text: "fd00:1::11" }, mac: "02:00:00:00:01:03", state: NUD.STALE },
    });
  });

  it("say which prefix a change of routes covers", () => {
    const added = decodeEvent(only(captured.ROUTE_ADDED));
    expect(added).toEqual({ kind: "route", gone: false, prefix: { family: 4, address: address("10.80.0.0"), length: 12 } });
    expect(decodeEvent(only(captured.ROUTE_DELETED))).toMatchObject({ kind: "route", gone: true });
  });

  it("are nothing for messages of no concern", () => {
    expect(decodeEvent({ type: 36, flags: 0, sequence: 0, payload: new Uint8Array(20) })).toBeNull();
    // A bridge port's view of a link: same message, other family.
    const { payload } = only(captured.LINK);
    expect(decodeEvent({ type: RTM.NEWLINK, flags: 0, sequence: 0, payload: Uint8Array.of(7, ...payload.subarray(1)) })).toBeNull();
  });
});

describe("routes", () => {
  it("by a gateway have its address, the source and the route's MTU", () => {
    const route = decodeRoute(only(captured.ROUTE_GATEWAY).payload);
    expect(route).toEqual({
      type: ROUTE_TYPES.UNICAST, ifindex: 3, gateway: address("10.1.0.2"), source: address("10.1.0.1"), mtu: 1400,
    });
  });
  it("may have a gateway of the other family", () => {
    expect(decodeRoute(only(captured.ROUTE_VIA_IPV6).payload)?.gateway?.text).toBe("fd00:1::2");
  });
  it("of IPv6 have a source, and none of their own MTU", () => {
    expect(decodeRoute(only(captured.ROUTE_IPV6).payload)).toMatchObject({
      ifindex: 3, gateway: null, source: { text: "fd00:1::1" }, mtu: 0,
    });
  });
  it("to this host are local", () => {
    expect(decodeRoute(only(captured.ROUTE_LOCAL).payload)?.type).toBe(ROUTE_TYPES.LOCAL);
  });
  it("cover what lies in their prefix", () => {
    const prefix = { family: 4, address: address("10.80.0.0"), length: 12 } as const;
    expect(covers(prefix, address("10.80.0.1"))).toBe(true);
    expect(covers(prefix, address("10.95.255.255"))).toBe(true);
    expect(covers(prefix, address("10.96.0.0"))).toBe(false);
    expect(covers(prefix, address("10.79.255.255"))).toBe(false);
    expect(covers({ family: 4, address: null, length: 0 }, address("8.8.8.8"))).toBe(true);
    expect(covers({ family: 4, address: null, length: 0 }, address("2001:db8::1"))).toBe(false);
    expect(covers({ family: 6, address: address("2001:db8::"), length: 33 }, address("2001:db8:7fff::"))).toBe(true);
    expect(covers({ family: 6, address: address("2001:db8::"), length: 33 }, address("2001:db8:8000::"))).toBe(false);
    expect(covers({ family: 4, address: address("10.0.0.1"), length: 32 }, address("10.0.0.1"))).toBe(true);
    expect(covers({ family: 4, address: address("10.0.0.1"), length: 32 }, address("10.0.0.2"))).toBe(false);
  });
});

describe("rtnetlink requests", () => {
  it("ask the way to one address", () => {
    const payload = encodeRouteRequest(address("10.50.0.1"));
    const message = { type: RTM.GETROUTE, flags: FLAG_REQUEST | FLAG_ACK, sequence: 1, payload };
    // As iproute2's "ip route get" builds it, without its flags of rtmsg.
    expect(hex(encodeMessage(message))).toBe("240000001a0005000100000000000000" + "022000000000000000000000" + "080001000a320001");
  });

  it("use a neighbour without saying its state", () => {
    const payload = encodeNeighbourUse(3, address("fd00:1::11"));
    expect(hex(payload)).toBe("0a0000000300000000000100" + "14000100fd000001000000000000000000000011");
  });

  it("put a virtual address on an interface, marked, and never as a source of IPv6", () => {
    const payload = encodeAddress({ ifindex: 1, address: address("2001:db8::10"), length: 128, protocol: 0x70 });
    const attributes = decodeAttributes(payload.subarray(8));
    expect(hex(payload.subarray(0, 8))).toBe("0a80000001000000");
    // IFA_CACHEINFO: preferred 0, valid for ever. IFA_FLAGS: no detection of duplicates, no prefix route.
    expect(hex(attributes.get(6)!)).toBe("00000000ffffffff0000000000000000");
    expect(hex(attributes.get(8)!)).toBe("02020000");
    expect([...attributes.get(11)!]).toEqual([0x70]);
  });

  it("refuse link addresses of another length", () => {
    expect([...macBytes("02:00:00:00:01:0f")]).toEqual([2, 0, 0, 0, 1, 15]);
    expect(() => macBytes("02:00")).toThrow(RangeError);
  });
});
