#!/usr/bin/env python3
"""Makes packets.json: packets, and what must become of them, written with scapy, which shares nothing
with the program or with our own packet code. Run it by hand after adding a case:

    python3 test/golden/packets/make.py

Tests read the JSON and need neither Python nor scapy. Every verdict has at least one case for each way of
forwarding, family of addresses and protocol that it can meet; test/unit/golden_coverage.test.ts looks for
them."""

import copy
import ipaddress
import json
import os
import struct

from scapy.all import (
    ARP, GRE, ICMP, IP, TCP, UDP, Dot1AD, Dot1Q, Ether, ICMPv6DestUnreach, ICMPv6EchoReply,
    ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, IPOption_NOP, IPv6,
    IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, Raw, raw,
)

CLIENT_MAC, OUR_MAC = "02:00:00:00:00:c1", "02:00:00:00:00:01"
# A virtual router's (RFC 9568, 7.3), which this host has as well; and one that it has not.
VIRTUAL_MAC, STRANGER_MAC = "00:00:5e:00:01:07", "02:00:00:00:00:99"
HOP_MAC = "02:00:00:00:0b:%02x"
CLIENT4, CLIENT6 = "192.0.2.7", "2001:db8::7"
DENIED4, DENIED6 = "192.0.2.200", "2001:db8:dead::1"
ROUTER4, ROUTER6 = "192.0.2.129", "2001:db8::129"
VIP4, VIP6 = "203.0.113.10", "fd00::10"
OUTER4, OUTER6 = "10.0.0.1", "fd10::1"
BACKEND4, BACKEND6 = "10.0.0.11", "fd10::11"

# --- the world ----------------------------------------------------------------------------------------

destinations, services, cases = [], [], []
ports = {}


def destination(forwarding, family, resolved=True, mtu=0, gue_variant=0, local=False, vlan=0, port=None, source=None, alive=True):
    """`port` is the backend's own, of what is translated; None: the packet's."""
    number = len(destinations) + 1
    destinations.append({
        "id": number, "forwarding": forwarding, "alive": alive, "resolved": resolved and not local, "local": local, "mtu": mtu, "vlan": vlan,
        "gueVariant": gue_variant,
        "address": BACKEND4 if family == 4 else BACKEND6,
        "tunnelSource": source or (OUTER4 if family == 4 else OUTER6), "port": port,
        "destinationMac": HOP_MAC % number, "sourceMac": OUR_MAC,
    })
    return number


def service(name, backend, denied=False, mss_max=None, forwarding=None, quic=None):
    """One service of each family and protocol on a port of its own, all with one backend, or one of each
    family. `forwarding`: of one that has none. `quic`: what connection IDs say, by UDP."""
    ports[name] = 1000 + len(ports)
    for family, address in ((4, VIP4), (6, VIP6)):
        for protocol in ("tcp", "udp"):
            services.append({
                "name": f"{name}-{protocol}-{family}", "address": address, "port": ports[name],
                "protocol": protocol,
                "destination": backend[family] if isinstance(backend, dict) else backend,
                "mssMax": mss_max, **({"quicLb": quic} if quic and protocol == "udp" else {}), **({} if forwarding is None else {"forwarding": forwarding}),
                "deny": ([DENIED4 + "/32"] if family == 4 else [DENIED6 + "/48"]) if denied else [],
            })


service("l2", destination("l2", 4))
service("ipip4", destination("ipip", 4), denied=True)
service("ipip6", destination("ipip", 6))
service("l2-unresolved", destination("l2", 4, resolved=False))
service("ipip-unresolved", destination("ipip", 4, resolved=False))
service("l2-narrow", destination("l2", 4, mtu=100))
service("ipip4-narrow", destination("ipip", 4, mtu=100))
service("ipip6-narrow", destination("ipip", 6, mtu=100))
service("nobody", 0)
for family in (4, 6):
    service(f"gre{family}", destination("gre", family))
    service(f"gue{family}", destination("gue", family))
    service(f"gue1-{family}", destination("gue", family, gue_variant=1))
service("gre4-narrow", destination("gre", 4, mtu=100))
service("gue6-narrow", destination("gue", 6, mtu=100))
service("gue-unresolved", destination("gue", 4, resolved=False))
for way, family in (("l2", 4), ("ipip", 6), ("gue", 4), ("gre", 6)):
    service(f"{way}-local", destination(way, family, local=True, mtu=100))
LOCALS = [f"{way}-local" for way in ("l2", "ipip", "gue", "gre")]
for way in ("nat", "fullnat"):
    for name, changes in (("", {}), ("-mapped", {"port": 8080}), ("-narrow", {"mtu": 100}),
                          ("-unresolved", {"resolved": False})):
        service(way + name, {family: destination(way, family, **changes) for family in (4, 6)})
for way, backend in (("l2", destination("l2", 4)), ("ipip", destination("ipip", 6)),
                     ("fullnat", {family: destination("fullnat", family) for family in (4, 6)})):
    service(f"{way}-clamped", backend, mss_max=1200)
service("sourceless", {family: destination("fullnat", family, source="::") for family in (4, 6)})
service("nat-sourceless", {family: destination("nat", family, source="::") for family in (4, 6)})
# Translated to an address of ours that is a virtual one as well.
OWN4, OWN6 = "198.51.102.1", "fd03::1"
for way, port in (("fullnat", None), ("fullnat", 8080)):
    service("own" + ("-mapped" if port else ""), {4: destination(way, 4, port=port, source=OWN4),
                                                  6: destination(way, 6, port=port, source=OWN6)})
# A number of a VLAN; or that frames leave without tags (enum next_hop_vlan).
VLAN, NO_VLAN = 2748, 4096
IN_VLAN = {"l2-vlan": ("l2", 4, VLAN), "ipip4-vlan": ("ipip", 4, VLAN), "gue6-vlan": ("gue", 6, VLAN),
           "l2-untagged": ("l2", 4, NO_VLAN), "ipip4-untagged": ("ipip", 4, NO_VLAN), "gre6-untagged": ("gre", 6, NO_VLAN)}
for name, (way, family, vlan) in IN_VLAN.items():
    service(name, destination(way, family, vlan=vlan))
for way in ("nat", "fullnat"):
    for name, vlan in (("vlan", VLAN), ("untagged", NO_VLAN)):
        service(f"{way}-{name}", {family: destination(way, family, vlan=vlan) for family in (4, 6)})
# Every way with every obstacle: the name, the bytes that it adds, and a backend of each family of clients.
SHIMS = {"ipip": 0, "gre": 4, "gue": 12, "gue1-": 8}
EVERY_WAY = {"l2": (0, "l2", 4, {}), "nat": (0, "nat", None, {}), "fullnat": (0, "fullnat", None, {})}
for shim, added in SHIMS.items():
    for family in (4, 6):
        EVERY_WAY[f"{shim}{family}"] = (added + (20 if family == 4 else 40), shim.removesuffix("1-"), family,
                                        {"gue_variant": 1} if shim == "gue1-" else {})
EVERY_MTU = 300


def backend_behind(name, **obstacle):
    _, way, outer_family, changes = EVERY_WAY[name]
    if outer_family is None:
        return {family: destination(way, family, **changes, **obstacle) for family in (4, 6)}
    return destination(way, outer_family, **changes, **obstacle)


for name, (_, _, outer_family, _) in EVERY_WAY.items():
    for kind, obstacle in (("denied", {"resolved": False}), ("small", {"mtu": EVERY_MTU}), ("here", {"local": True})):
        if kind == "here" and outer_family is None:
            continue
        service(f"{name} {kind}", backend_behind(name, **obstacle), denied=kind == "denied")
for way in ("nat", "fullnat"):
    service(f"{way} nobody", 0, forwarding=way)
# Connection IDs, and where each says its packets go: the vectors of draft-ietf-quic-load-balancers-21 (appendix B;
# test/support/quic_lb_vectors.ts says how they are read). Whatever says nothing goes by the ring, to another backend.
CID_KEY = "8f95f09245765f80256934e50c66207f"
CIDS = {
    "l2": ("07c4605e4504cc4f", "c4605e", None), "ipip4": ("20a350d28b4203487d970b", "a350d28b42", None),
    "ipip6": ("0720b1d07b359d3c", "ed793a", CID_KEY), "gue4": ("2fcc381bc74cb4fbad2823a3d1f8fed2", "ed793a51d49b8f5fab65", CID_KEY),
    "gue1-6": ("504dd2d05a7b0de9b2b9907afb5ecf8cc3", "ed793a51d49b8f5f", CID_KEY),
    "gre6": ("125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc", "ed793a51d49b8f5fab", CID_KEY),
}
by_ring = destination("l2", 4)
for way, (cid, server, key) in CIDS.items():
    named = next(one["destination"] for one in services if one["port"] == ports[way])
    first, length = int(cid[:2], 16), len(cid) // 2
    service(f"{way} by id", by_ring, quic={
        "configs": [{"id": first >> 5, "serverIdBytes": len(server) // 2, "nonceBytes": length - 1 - len(server) // 2,
                     "lengthEncoded": first & 31 == length - 1, "key": key}],
        "servers": {server: named}})
# Its only backend is down: the service still has it, but no slot of its ring leads there.
for name in EVERY_WAY:
    service(f"{name} down", backend_behind(name, alive=False))
TUNNELS = [f"{name}{family}" for name in ("ipip", "gre", "gue", "gue1-") for family in (4, 6)]
backend_of = {one["port"]: one["destination"] for one in services}
backends_of = {(one["port"], 6 if ":" in one["address"] else 4): one["destination"] for one in services}


def wildcard(name, where4, where6, port, backend, protocols=("tcp", "udp")):
    """A service with prefixes, a range of ports, or both; `port` as in a config."""
    for family, address in ((4, where4), (6, where6)):
        for protocol in protocols:
            services.append({"name": f"{name}-{protocol}-{family}", "address": address, "port": port,
                             "protocol": protocol, "destination": backend, "deny": [], "mssMax": None})


# Each within the one before: the longest prefix wins, and in it the narrowest range.
L2, IPIP4, IPIP6 = (backend_of[ports[name]] for name in ("l2", "ipip4", "ipip6"))
wildcard("outer", "198.51.100.0/24", "fd01::/64", "any", IPIP4)
wildcard("inner", "198.51.100.16/28", "fd01::10/124", "8000-8099", L2)
wildcard("narrow", "198.51.100.16/28", "fd01::10/124", "8010-8018", IPIP6)
wildcard("alone", "198.51.100.17", "fd01::11", "any", IPIP6)
wildcard("exact", "198.51.100.17", "fd01::11", 8000, L2)
wildcard("own-any", OWN4, OWN6, "any", L2)
wildcard("tcp-only", "198.51.101.0/30", "fd02::/126", "80-81", L2, protocols=("tcp",))

# --- packets ------------------------------------------------------------------------------------------


def ether(**changes):
    return Ether(**{"src": CLIENT_MAC, "dst": OUR_MAC, **changes})


def ip(family, **changes):
    if family == 4:
        return IP(**{"src": CLIENT4, "dst": VIP4, "ttl": 64, "id": 7, "flags": "DF", **changes})
    changes = {{"ttl": "hlim", "tos": "tc"}.get(key, key): value for key, value in changes.items()}
    return IPv6(**{"src": CLIENT6, "dst": VIP6, "hlim": 64, "fl": 0x12345, **changes})


def udp(port, length=10):
    return UDP(sport=40000, dport=port) / Raw(bytes(range(length % 256)) + bytes(length - length % 256))


def tcp(port, flags="S"):
    return TCP(sport=40000, dport=port, flags=flags, seq=1, window=65535) / Raw(b"hello")


def echo(family, **changes):
    if family == 4:
        return ICMP(**{"type": 8, "id": 1, "seq": 2, **changes}) / Raw(b"ping")
    return ICMPv6EchoRequest(**{"id": 1, "seq": 2, **changes}) / Raw(b"ping")


def ip_layer(frame):
    return frame.getlayer(IP) if frame.haslayer(IP) else frame.getlayer(IPv6)


def one_hop_less(frame):
    """The same packet with its time to live decremented, and the IPv4 sum made anew by scapy."""
    frame = copy.deepcopy(frame)
    layer = ip_layer(frame)
    if layer.version == 4:
        layer.ttl -= 1
        del layer.chksum
    else:
        layer.hlim -= 1
    return frame


def set_macs(frame, backend):
    hop = destinations[backend - 1]
    frame[Ether].dst, frame[Ether].src = hop["destinationMac"], hop["sourceMac"]
    return frame


def flow_hash(layer):
    """HalfSipHash-1-3 with the seed 1 over source, destination, ports and protocol, as docs/ring.md says."""
    def packed(address):
        number = int(ipaddress.ip_address(address))
        return (number | 0xFFFF << 32 if layer.version == 4 else number).to_bytes(16, "big")

    transport = layer[TCP] if layer.haslayer(TCP) else layer[UDP]
    protocol = 6 if layer.haslayer(TCP) else 17
    text = packed(layer.src) + packed(layer.dst) + struct.pack(">HHB", transport.sport, transport.dport, protocol)
    text += bytes(-(len(text) + 1) % 4) + bytes([len(text)])
    v = [1, 0, 1 ^ 0x6C796765, 0 ^ 0x74656462]

    def turn(word, bits):
        return (word << bits | word >> 32 - bits) & 0xFFFFFFFF

    def mix():
        v[0] = v[0] + v[1] & 0xFFFFFFFF
        v[1] = turn(v[1], 5) ^ v[0]
        v[0] = turn(v[0], 16)
        v[2] = v[2] + v[3] & 0xFFFFFFFF
        v[3] = turn(v[3], 8) ^ v[2]
        v[0] = v[0] + v[3] & 0xFFFFFFFF
        v[3] = turn(v[3], 7) ^ v[0]
        v[2] = v[2] + v[1] & 0xFFFFFFFF
        v[1] = turn(v[1], 13) ^ v[2]
        v[2] = turn(v[2], 16)

    for (word,) in struct.iter_unpack("<I", text):
        v[3] ^= word
        mix()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        mix()
    return v[1] ^ v[3]


def tags_of(frame):
    """Copies of its VLAN tags, outermost first."""
    layers = [frame.getlayer(number) for number in range(1, 3)]
    return [type(one)(prio=one.prio, id=one.id, vlan=one.vlan) for one in layers if isinstance(one, (Dot1Q, Dot1AD))]


def with_tags(frame, tags):
    """The same with these tags, whatever it came with."""
    old = len(tags_of(frame))
    packet = frame.getlayer(old).payload if old else frame.payload
    out = Ether(src=frame.src, dst=frame.dst)
    for tag in tags:
        out = out / copy.deepcopy(tag)
    return out / packet


def in_vlan(frame, vlan):
    """With this tag alone, of the priority that the outermost one had; or with none."""
    if vlan == 0:
        return frame
    tags = tags_of(frame)
    tag = Dot1Q(vlan=vlan, prio=tags[0].prio if tags else 0, id=tags[0].id if tags else 0)
    return with_tags(frame, [] if vlan == NO_VLAN else [tag])


def forwarded(frame, backend, flow=None):
    """`flow` is a packet of the flow that the frame belongs to, where it is none itself."""
    hop = destinations[backend - 1]
    frame = set_macs(one_hop_less(frame), hop["id"])
    if hop["forwarding"] == "l2":
        return frame
    inner = ip_layer(frame)
    below = inner.underlayer
    number = 4 if inner.version == 4 else 41
    ether_type = 0x0800 if inner.version == 4 else 0x86DD
    inner = Raw(raw(inner)) if hop["forwarding"] != "ipip" else inner
    if hop["forwarding"] == "gre":
        inner, number = GRE(proto=ether_type) / inner, 47
    elif hop["forwarding"] == "gue":
        header = b"" if hop["gueVariant"] else bytes([0, number, 0, 0])
        source = 0xC000 | flow_hash(flow or ip_layer(frame)) & 0x3FFF
        inner, number = UDP(sport=source, dport=6080, chksum=0) / Raw(header + raw(inner)), 17
    layer = ip_layer(frame)
    tos = layer.tos if layer.version == 4 else layer.tc
    if ":" in hop["address"]:
        outer = IPv6(src=hop["tunnelSource"], dst=hop["address"], hlim=64, tc=tos, fl=0, nh=number)
    else:
        free = layer.version == 4 and "DF" not in layer.flags
        # Each outer packet that may be cut to pieces has an identification of its own: 0 stands for it here.
        outer = IP(src=hop["tunnelSource"], dst=hop["address"], ttl=64, tos=tos, proto=number,
                   flags="" if free else "DF", id=0)
    below.remove_payload()
    below.type = 0x86DD if ":" in hop["address"] else 0x0800
    return frame / outer / inner


def replied(frame):
    frame = copy.deepcopy(frame)
    frame[Ether].src, frame[Ether].dst = frame[Ether].dst, frame[Ether].src
    layer = ip_layer(frame)
    layer.src, layer.dst = layer.dst, layer.src
    if layer.version == 4:
        layer.ttl = 64
        del layer.chksum
        frame[ICMP].type = 0
        del frame[ICMP].chksum
        return frame
    layer.hlim = 64
    request = frame[ICMPv6EchoRequest]
    reply = ICMPv6EchoReply(code=request.code, id=request.id, seq=request.seq, data=bytes(request.data))
    layer.remove_payload()
    return frame / reply


def squeeze(data):
    """Hexadecimal text and the number of zero bytes behind it: some packets are long and empty."""
    kept = data.rstrip(b"\0")
    kept = data if len(data) - len(kept) < 64 else kept
    return {"hex": kept.hex(), "zeros": len(data) - len(kept)}


def case(name, verdict, frame, expected=None, orphan="keep", before=None, noted=None, full=False, fresh=None, taken_out=False):
    """`frame` is a scapy packet or bytes; `expected` the same, None for the frame as it came. `before` goes
    through the program first; what becomes of it is another case. `noted`: what is learned of a tunnel.
    `full`: no translated flow fits any more. `fresh`: where an identification stands that is new each time,
    and 0 in `expected`. `taken_out`: between `before` and this one, all backends were."""
    bytes_in = frame if isinstance(frame, bytes) else raw(frame)
    out = None if expected is None else squeeze(expected if isinstance(expected, bytes) else raw(expected))
    cases.append({"name": name, "verdict": verdict, "orphan": orphan, "frame": squeeze(bytes_in), "expected": out,
                  **({} if before is None else {"before": squeeze(raw(before))}),
                  **({} if noted is None else {"noted": noted}),
                  **({} if fresh is None else {"fresh": fresh}),
                  **({"takenOut": True} if taken_out else {}),
                  **({"full": True} if full else {})})


def forwards(name, frame, port, padding=b"", verdict="TX_FORWARDED", flow=None, backend=None, before=None):
    # What lies behind the IP packet is not scapy's to count: it goes along as it came.
    built = Ether(raw(frame))
    assert raw(built) == raw(frame), name
    backend = backend or backend_of[ports[port]]
    sent = in_vlan(forwarded(built, backend, flow), destinations[backend - 1]["vlan"])
    case(name, verdict, raw(built) + padding, raw(sent) + padding, before=before,
         fresh=identification_of(built, sent, destinations[backend - 1]))


def identification_of(built, sent, hop):
    """Where the outer header's is, if there is an outer header and its packet may be cut to pieces."""
    is_tunnel = hop["forwarding"] in ("ipip", "gre", "gue") and ":" not in hop["address"]
    layer = ip_layer(built)
    if not is_tunnel or layer.version == 6 or "DF" in layer.flags:
        return None
    return raw(sent).index(raw(sent[IP])) + 4


def reports(name, frame, port, flow=None, backend=None):
    """An ICMP error goes where the flow goes that it quotes."""
    forwards(name, frame, port, verdict="TX_ICMP_ERROR", flow=flow, backend=backend)


def tells(name, frame, mtu):
    """Too big, and the sender hears of it: what came is quoted, at most 504 bytes of it, else 68."""
    built = Ether(raw(frame))
    layer = ip_layer(built)
    length = layer.len if layer.version == 4 else layer.plen + 40
    quote = raw(layer)[:504 if length >= 504 else 68]
    if layer.version == 4:
        answer = IP(src=layer.dst, dst=layer.src, ttl=64, id=0, flags="DF") / ICMP(type=3, code=4, nexthopmtu=mtu)
    else:
        answer = IPv6(src=layer.dst, dst=layer.src, hlim=64, fl=0) / ICMPv6PacketTooBig(mtu=mtu)
    out = copy.deepcopy(built)
    out[Ether].src, out[Ether].dst = built.dst, built.src
    ip_layer(out).underlayer.remove_payload()
    ip_type = 0x0800 if layer.version == 4 else 0x86DD
    out.lastlayer().type = ip_type
    case(name, "TX_TOO_BIG", built, out / answer / Raw(quote))


def resets(name, frame, before, padding=b""):
    """Of a connection whose backend was taken out: its sender hears of it where it expects what comes next."""
    built = Ether(raw(frame))
    layer, segment = ip_layer(built), built[TCP]
    there = TCP(sport=segment.dport, dport=segment.sport, flags="R", seq=segment.ack, ack=0, window=0)
    if layer.version == 4:
        answer = IP(src=layer.dst, dst=layer.src, ttl=64, id=0, flags="DF") / there
    else:
        answer = IPv6(src=layer.dst, dst=layer.src, hlim=64, fl=0) / there
    out = copy.deepcopy(built)
    out[Ether].src, out[Ether].dst = built.dst, built.src
    ip_layer(out).underlayer.remove_payload()
    out.lastlayer().type = 0x0800 if layer.version == 4 else 0x86DD
    case(name, "TX_RESET", raw(built) + padding, out / answer, before=before, taken_out=True)


def answers(name, frame):
    built = Ether(raw(frame))
    case(name, "TX_ECHO_REPLY", built, replied(built))


# --- forwarded ----------------------------------------------------------------------------------------

for family in (4, 6):
    for port in ("l2", *TUNNELS):
        there = f"v{family} {port}"
        forwards(f"{there} udp", ether() / ip(family) / udp(ports[port]), port)
        forwards(f"{there} tcp", ether() / ip(family) / tcp(ports[port]), port)
        forwards(f"{there} traffic class", ether() / ip(family, tos=0xBB) / tcp(ports[port], "A"), port)
        forwards(f"{there} one tag", ether() / Dot1Q(vlan=7, prio=3) / ip(family) / udp(ports[port]), port)
        forwards(f"{there} two tags", ether() / Dot1AD(vlan=9) / Dot1Q(vlan=8) / ip(family) / udp(ports[port]), port)
        forwards(f"{there} last hop but one", ether() / ip(family, ttl=2) / udp(ports[port]), port)
        forwards(f"{there} padded", ether() / ip(family) / udp(ports[port], 0), port, padding=bytes(range(1, 19)))
    forwards(f"v{family} of 1500 bytes", ether() / ip(family) / udp(ports["ipip4"], 1400), "ipip4")

for port in ("l2", *TUNNELS):
    there = f"v4 {port}"
    options = [IPOption_NOP()] * 8
    forwards(f"{there} with options", ether() / ip(4, options=options) / udp(ports[port]), port)
    forwards(f"{there} may be fragmented", ether() / ip(4, flags="", id=0xABCD) / udp(ports[port]), port)
    padding = PadN(optdata=b"\0" * 12)
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(options=[padding]) / IPv6ExtHdrRouting(segleft=0)
    forwards(f"v6 {port} with extensions", ether() / ip(6) / chain / udp(ports[port]), port)
    atomic = IPv6ExtHdrFragment(offset=0, m=0, id=5)
    forwards(f"v6 {port} atomic fragment", ether() / ip(6) / atomic / tcp(ports[port]), port)


# Replacing a word by a smaller one never needs the second folding; a time to live that grows may.
def reply_carries(number):
    data = raw(ip(4, ttl=10, id=number) / echo(4))
    check, before = (int.from_bytes(data[at:at + 2], "little") for at in (10, 8))
    total = (~check & 0xFFFF) + (~before & 0xFFFF) + before - 10 + 64
    return (total & 0xFFFF) + (total >> 16) > 0xFFFF


def outer_carries(length):
    data = raw(IP(src=OUTER4, dst=BACKEND4, tos=0xFF, ttl=64, proto=4, flags="DF", id=0, len=48 + length))
    total = sum(int.from_bytes(data[at:at + 2], "little") for at in range(0, 20, 2) if at != 10)
    return (total & 0xFFFF) + (total >> 16) > 0xFFFF


def first_number(wanted):
    return next(number for number in range(65536) if wanted(number))


answers("v4 echo with a sum that carries twice",
        ether() / ip(4, ttl=10, id=first_number(reply_carries)) / echo(4))
forwards("v4 ipip4 outer sum that carries twice",
         ether() / ip(4, tos=0xFF) / udp(ports["ipip4"], first_number(outer_carries)), "ipip4")

# --- fragments ----------------------------------------------------------------------------------------


def datagram(family, transport, port, **changes):
    header = TCP(sport=40000, dport=ports[port], flags="A") if transport == "tcp" else UDP(sport=40000, dport=ports[port])
    return ip(family, **changes) / header / Raw(bytes(range(250)) * 2)


def pieces(family, transport, port, number, **changes):
    """A datagram that scapy itself cut (IPv4), or that was cut by hand, since scapy's fragment6 changes the
    header it is given: first, middle and last fragment."""
    whole = datagram(family, transport, port, **changes)
    if family == 4:
        whole.id, whole.flags = number, ""
        cut = whole.fragment(fragsize=200)
        assert len(cut) == 3 and [one.frag for one in cut] == [0, 25, 50]
        return [ether() / one for one in cut]
    body = raw(whole)[40:]
    kind = 6 if transport == "tcp" else 17
    return [ether() / ip(6, **changes) / IPv6ExtHdrFragment(nh=kind, offset=start // 8, m=more, id=number) /
            Raw(body[start:start + 200]) for start, more in ((0, 1), (200, 1), (400, 0))]


number = 0x1000
for family in (4, 6):
    for port in ("l2", *TUNNELS):
        for transport in ("tcp", "udp"):
            number += 1
            flow = datagram(family, transport, port)
            first, middle, last = pieces(family, transport, port, number)
            there = f"v{family} {port} {transport}"
            forwards(f"{there} first fragment", first, port, flow=flow)
            forwards(f"{there} middle fragment", middle, port, flow=flow, before=first)
            forwards(f"{there} last fragment", last, port, flow=flow, before=first)
            # Reversed: whoever comes before the first is not known to be ours.
            first, middle, last = pieces(family, transport, port, number + 0x100)
            case(f"{there} last fragment ahead", "PASS_FRAGMENT", last, before=middle)
    here = f"v{family} fragment"
    client, other = {4: ("192.0.2.8", "203.0.113.11"), 6: ("2001:db8::8", "fd00::11")}[family]
    first, middle, last = pieces(family, "udp", "l2", 0x2000 + family)
    for what, changes, theirs in (("client", {"src": client}, 0x2000), ("number", {}, 0x2100)):
        stranger = pieces(family, "udp", "l2", theirs + family, **changes)[2]
        case(f"{here} of another {what}", "PASS_FRAGMENT", stranger, before=first)
    if family == 4:
        case(f"{here} of another protocol", "PASS_FRAGMENT", pieces(4, "tcp", "l2", 0x2000 + 4)[2], before=first)
        first = pieces(4, "udp", "l2", 0x2010)[0]
        marked = pieces(4, "udp", "l2", 0x2010, options=[IPOption_NOP()] * 4)[2]
        forwards(f"{here} with options", marked, "l2", before=first)
    else:
        # RFC 8200, 4.5: the next header counts in the first fragment alone.
        odd = ether() / ip(6) / IPv6ExtHdrFragment(nh=60, offset=50, m=0, id=0x2000 + 6) / Raw(b"x" * 40)
        forwards(f"{here} with another next header", odd, "l2", before=first)
        behind = IPv6ExtHdrFragment(nh=60, offset=0, m=1, id=0x2010) / IPv6ExtHdrDestOpt() / udp(ports["l2"], 200)
        ahead = ether() / ip(6) / IPv6ExtHdrHopByHop() / behind
        forwards(f"{here} first, between extensions", ahead, "l2")
        odd = ether() / ip(6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(nh=60, offset=27, m=0, id=0x2010) / Raw(b"x" * 40)
        forwards(f"{here} last, between extensions", odd, "l2", before=ahead)
    stranger = pieces(family, "udp", "l2", 0x2000 + family, dst=other)
    case(f"{here} first for somebody else", "PASS_NOT_OURS", stranger[0])
    case(f"{here} last for somebody else", "PASS_NOT_OURS", stranger[2], before=stranger[0])
    # What is not forwarded leaves nothing to follow.
    for what, port, verdict, changes in (
            ("denied", "ipip4", "DROP_DENIED", {"src": DENIED4 if family == 4 else DENIED6}),
            ("last hop", "l2", "DROP_TTL_EXPIRED", {"ttl": 1}), ("nobody", "nobody", "DROP_NO_BACKEND", {}),
            ("unresolved", "l2-unresolved", "DROP_NO_NEIGHBOUR", {})):
        number += 1
        first, middle, last = pieces(family, "udp", port, number, **changes)
        case(f"{here} first, {what}", verdict, first)
        case(f"{here} last, {what}", "PASS_FRAGMENT", last, before=first)
    # A later one is measured against the service as every packet is.
    first, middle, _ = pieces(family, "udp", "l2", 0x2020 + family)
    last = pieces(family, "udp", "l2", 0x2020 + family, ttl=1)[2]
    case(f"{here} last, last hop", "DROP_TTL_EXPIRED", last, before=first)
    ping = ip(family, **({"flags": "MF", "id": 0x2030} if family == 4 else {}))
    ping = ping / echo(family) if family == 4 else ping / IPv6ExtHdrFragment(offset=0, m=1, id=0x2030) / echo(6)
    later = (ip(4, frag=9, id=0x2030, proto=1) if family == 4 else
             ip(6) / IPv6ExtHdrFragment(offset=9, nh=58, id=0x2030)) / Raw(b"x" * 40)
    case(f"{here} last of an echo", "PASS_FRAGMENT", ether() / later, before=ether() / ping)

# --- answered -----------------------------------------------------------------------------------------

def padded(frame):
    """To the least that Ethernet carries, without its checksum, or further; by what is no zero."""
    return raw(frame) + b"\xa5" * max(9, 60 - len(raw(frame)))


for family in (4, 6):
    request = Ether(raw(ether() / ip(family) / echo(family)))
    case(f"v{family} echo, padded", "TX_ECHO_REPLY", padded(request), raw(replied(request)) + padded(request)[len(raw(request)):])
    answers(f"v{family} echo, two tags", ether() / Dot1AD(vlan=9) / Dot1Q(vlan=8) / ip(family) / echo(family))
    # Padding is no packet: what ends within it ends too early, and what begins there is not there.
    head = 20 if family == 4 else 40
    for port in ("l2", "ipip4", "nat", "l2-local"):
        for what, header in (("udp", udp(ports[port], 0)), ("tcp", tcp(ports[port]))):
            number = 17 if what == "udp" else 6
            short = raw(ip(4, proto=number, len=head + 7)) if family == 4 else raw(ip(6, nh=number, plen=7))
            whole = raw(ip(family) / header)
            case(f"v{family} {port} {what} that goes on in the padding", "PASS_TRUNCATED",
                 raw(ether(type=0x0800 if family == 4 else 0x86DD)) + short + whole[head:] + bytes(20))
    answers(f"v{family} echo", ether() / ip(family) / echo(family))
    answers(f"v{family} echo, one tag", ether() / Dot1Q(vlan=7) / ip(family) / echo(family))
    answers(f"v{family} echo, last hop", ether() / ip(family, ttl=1) / echo(family))
    answers(f"v{family} echo of a denied client", ether() / ip(family, src=DENIED4 if family == 4 else DENIED6) / echo(family))

# --- errors -------------------------------------------------------------------------------------------


def reply(family, transport, port, **changes):
    """What a backend sends to the client, as bytes: the virtual address is its source."""
    here, there = (VIP4, CLIENT4) if family == 4 else (VIP6, CLIENT6)
    header = TCP(flags="A", seq=5, ack=6) if transport == "tcp" else UDP()
    header.sport, header.dport = ports.get(port, port), 40000
    changes = {"src": here, "dst": there, "ttl": 61, **changes}
    extension = changes.pop("extension", None)
    layer = ip(family, **changes)
    return raw((layer / extension if extension else layer) / header / Raw(bytes(range(200))))


def shortest(family, transport, port, **changes):
    """The least that RFC 792 promises: the IP header and eight bytes."""
    return reply(family, transport, port, **changes)[:28 if family == 4 else 48]


def too_big(family, quote, **changes):
    """A router beyond the balancer could not send the quoted packet on."""
    if family == 4:
        return ip(4, **{"src": ROUTER4, **changes}) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quote)
    return ip(6, **{"src": ROUTER6, **changes}) / ICMPv6PacketTooBig(mtu=1400) / Raw(quote)


for family in (4, 6):
    for port in ("l2", *TUNNELS):
        for transport in ("tcp", "udp"):
            there = f"v{family} {port} too big, quoting"
            flow = ip(family) / (tcp if transport == "tcp" else udp)(ports[port])
            least = shortest(family, transport, port)
            reports(f"{there} 8 bytes of {transport}", ether() / too_big(family, least), port, flow)
            reports(f"{there} more of {transport}", ether() / too_big(family, reply(family, transport, port)), port, flow)
    here = f"v{family} l2 error"
    least = shortest(family, "tcp", "l2")
    sender = ip(family, src=ROUTER4 if family == 4 else ROUTER6)
    kinds = ([ICMP(type=3, code=1), ICMP(type=3, code=3), ICMP(type=11), ICMP(type=12, ptr=20)] if family == 4 else
             [ICMPv6DestUnreach(code=0), ICMPv6DestUnreach(code=4), ICMPv6TimeExceeded(), ICMPv6ParamProblem(ptr=40)])
    for kind in kinds:
        reports(f"{here} {kind.type}/{kind.code}", ether() / sender / kind / Raw(least), "l2")
    reports(f"{here}, one tag", ether() / Dot1Q(vlan=7) / too_big(family, least), "l2")
    reports(f"{here} of a denied router", ether() / too_big(family, least, src=DENIED4 if family == 4 else DENIED6), "l2")
    # RFC 4884: the quote is padded to 128 bytes, its length is stated, and objects follow (RFC 4950).
    objects = bytes([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x41, 0x40])
    padded = least + bytes(128 - len(least)) + objects
    stated = ICMP(type=11, length=32) if family == 4 else ICMPv6TimeExceeded(length=16)
    reports(f"{here} with extensions", ether() / sender / stated / Raw(padded), "l2")
    # The quoted length is that of the packet as it was sent, and its time to live may have ended.
    reports(f"{here} of an expired packet", ether() / too_big(family, shortest(family, "udp", "l2", ttl=0)), "l2")
    if family == 4:
        marked = reply(4, "tcp", "l2", options=[IPOption_NOP()] * 40)
        reports(f"{here} quoting options", ether() / too_big(4, marked[:68]), "l2")
        case(f"{here} quoting options cut short", "PASS_ICMP", ether() / too_big(4, marked[:67]))
        first = reply(4, "udp", "l2", flags="MF")[:28]
        later = reply(4, "udp", "l2", flags="MF", frag=185)[:28]
    else:
        marked = reply(6, "tcp", "l2", extension=IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0))
        reports(f"{here} quoting extensions", ether() / too_big(6, marked[:72]), "l2")
        case(f"{here} quoting extensions cut short", "PASS_ICMP", ether() / too_big(6, marked[:71]))
        first = reply(6, "udp", "l2", extension=IPv6ExtHdrFragment(offset=0, m=1, id=9))[:56]
        later = reply(6, "udp", "l2", extension=IPv6ExtHdrFragment(offset=185, m=1, id=9))[:56]
        on = reply(6, "udp", "l2", extension=IPv6ExtHdrRouting(addresses=["fd00::99"], segleft=1))
        case(f"{here} quoting segments left", "PASS_ICMP", ether() / too_big(6, on))
        many = IPv6ExtHdrDestOpt()
        for _ in range(5):
            many = many / IPv6ExtHdrDestOpt()
        case(f"{here} quoting six extensions", "PASS_ICMP", ether() / too_big(6, reply(6, "udp", "l2", extension=many)))
        case(f"{here} quoting a mapped client", "PASS_ICMP",
             ether() / too_big(6, shortest(6, "udp", "l2", dst="::ffff:" + CLIENT4)))
    reports(f"{here} quoting a first fragment", ether() / too_big(family, first), "l2")
    case(f"{here} quoting a later fragment", "PASS_ICMP", ether() / too_big(family, later))
    case(f"{here} quoting 7 bytes", "PASS_ICMP", ether() / too_big(family, least[:-1]))
    case(f"{here} quoting half a header", "PASS_ICMP", ether() / too_big(family, least[:19]))
    case(f"{here} quoting nothing", "PASS_ICMP", ether() / too_big(family, b""))
    case(f"{here} quoting another version", "PASS_ICMP", ether() / too_big(family, bytes([0x55]) + least[1:]))
    stranger = shortest(family, "tcp", "l2", src="203.0.113.11" if family == 4 else "fd00::11")
    case(f"{here} quoting a stranger", "PASS_ICMP", ether() / too_big(family, stranger))
    case(f"{here} quoting no service", "PASS_ICMP", ether() / too_big(family, shortest(family, "tcp", 9)))
    # The other way round: sent by the client, which is no packet of ours.
    turned = raw(ip(family) / udp(ports["l2"]))
    case(f"{here} quoting the client", "PASS_ICMP", ether() / too_big(family, turned))
    pinged = raw(ip(family, src=VIP4 if family == 4 else VIP6, dst=CLIENT4 if family == 4 else CLIENT6) / echo(family))
    case(f"{here} quoting an echo", "PASS_ICMP", ether() / too_big(family, pinged))
    no_error = ICMP(type=5, code=1) if family == 4 else ICMPv6EchoReply()
    case(f"v{family} no error, quoting", "PASS_ICMP", ether() / sender / no_error / Raw(least))
    piece = ip(4, src=ROUTER4, flags="MF") if family == 4 else ip(6, src=ROUTER6) / IPv6ExtHdrFragment(offset=0, m=1)
    case(f"{here} in a fragment", "PASS_ICMP", ether() / piece / kinds[0] / Raw(least))
    other = "203.0.113.11" if family == 4 else "fd00::11"
    case(f"{here} to somebody else", "PASS_NOT_OURS", ether() / too_big(family, least, dst=other))
    case(f"{here} about and to somebody else", "PASS_NOT_OURS", ether() / too_big(family, stranger, dst=other))
    about_denied = shortest(family, "tcp", "ipip4", dst=DENIED4 if family == 4 else DENIED6)
    case(f"{here} about a denied client", "DROP_DENIED", ether() / too_big(family, about_denied))
    case(f"{here}, last hop", "DROP_TTL_EXPIRED", ether() / too_big(family, least, ttl=1))
    case(f"{here}, orphaned", "PASS_ORPHANED", ether() / too_big(family, least), orphan="pass")
    case(f"{here}, orphaned, dropped", "DROP_ORPHANED", ether() / too_big(family, least), orphan="drop")
    for port, verdict in (("nobody", "DROP_NO_BACKEND"), ("l2-unresolved", "DROP_NO_NEIGHBOUR")):
        case(f"{here}, {port}", verdict, ether() / too_big(family, shortest(family, "tcp", port)))
    long = reply(family, "tcp", "ipip4-narrow")
    case(f"{here} too big itself", "DROP_TOO_BIG", ether() / too_big(family, long))

extended = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
reports("v4 l2 error with options",
        ether() / ip(4, src=ROUTER4, options=[IPOption_NOP()] * 8) / ICMP(type=11) / Raw(shortest(4, "udp", "l2")), "l2")
reports("v6 l2 error with extensions",
        ether() / ip(6, src=ROUTER6) / extended / ICMPv6TimeExceeded() / Raw(shortest(6, "udp", "l2")), "l2")

# --- passed -------------------------------------------------------------------------------------------

case("arp", "PASS_NOT_IP", ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=VIP4))
case("llc", "PASS_NOT_IP", raw(ether(type=0x0026)) + bytes(40))
case("three tags", "PASS_NOT_IP", ether() / Dot1Q() / Dot1Q() / Dot1Q() / ip(4) / udp(ports["l2"]))
case("cut in the tag", "PASS_NOT_IP", raw(ether() / Dot1Q() / ip(4))[:17])
case("no more than a link-layer header", "PASS_MALFORMED", raw(ether(type=0x0800))[:14])
# IEEE 802.3 with a length instead of a type: LLC, and SNAP, which may carry IP (RFC 1042); up to 1500 it is none.
inside = raw(ip(4) / udp(ports["l2"]))
snap = bytes([0xAA, 0xAA, 3, 0, 0, 0, 8, 0]) + inside
case("snap with IP", "PASS_NOT_IP", raw(ether(type=len(snap))) + snap)
case("llc in a tag", "PASS_NOT_IP", raw(ether() / Dot1Q(vlan=7, type=0x0026)) + bytes(40))
case("snap with IP in a tag", "PASS_NOT_IP", raw(ether() / Dot1Q(vlan=7, type=len(snap))) + snap)
case("the longest length", "PASS_NOT_IP", raw(ether(type=1500)) + bytes(1500))
for name, number in (("slow protocols", 0x8809), ("lldp", 0x88CC), ("mpls", 0x8847), ("pppoe", 0x8864),
                     ("loopback", 0x9000), ("an older double tag", 0x9100), ("the type of IP turned round", 0x0008)):
    case(name, "PASS_NOT_IP", raw(ether(type=number)) + inside)
# Two tags at most, of either type; the third is not looked at, whatever it is.
for outer_tag in (Dot1Q, Dot1AD):
    for inner_tag in (Dot1Q, Dot1AD):
        words = f"{'q' if outer_tag is Dot1Q else 'ad'} outside {'q' if inner_tag is Dot1Q else 'ad'}"
        tagged = ether() / outer_tag(vlan=9, prio=7, id=1) / inner_tag(vlan=8)
        for family in (4, 6):
            forwards(f"v{family} {words}", tagged / ip(family) / udp(ports["l2"]), "l2")
        case(f"arp, {words}", "PASS_NOT_IP", tagged / ARP(pdst=VIP4))
        case(f"{words}, and a third", "PASS_NOT_IP", tagged / Dot1Q(vlan=7) / ip(4) / udp(ports["l2"]))
        whole = raw(tagged / ip(4) / udp(ports["l2"]))
        for length in (14, 15, 17, 18, 21):
            case(f"{words}, cut after {length} bytes", "PASS_NOT_IP", whole[:length])
        for family in (4, 6):
            whole = raw(tagged / ip(family) / udp(ports["l2"]))
            for length in (22, 22 + (19 if family == 4 else 39)):
                case(f"v{family} {words}, cut after {length} bytes", "PASS_MALFORMED", whole[:length])
# Number 0 is a priority alone, and 4095 is none that may be used (IEEE 802.1Q, 9.6): what came goes on.
for number in (0, 1, 4094, 4095):
    for family in (4, 6):
        tag = Dot1Q(vlan=number, prio=6)
        forwards(f"v{family} VLAN {number}", ether() / tag / ip(family) / udp(ports["l2"]), "l2")
        forwards(f"v{family} VLAN {number} to a VLAN", ether() / tag / ip(family) / udp(ports["l2-vlan"]), "l2-vlan")
        forwards(f"v{family} VLAN {number} to none", ether() / tag / ip(family) / udp(ports["l2-untagged"]), "l2-untagged")

for family in (4, 6):
    other = {4: "203.0.113.11", 6: "fd00::11"}[family]
    here = f"v{family}"
    plain = raw(ether() / ip(family) / udp(ports["l2"]))
    header = 34 if family == 4 else 54
    case(f"{here} header cut short", "PASS_MALFORMED", plain[:header - 1])
    case(f"{here} longer than the frame", "PASS_MALFORMED", plain[:-1])
    case(f"{here} of the wrong version", "PASS_MALFORMED", plain[:14] + bytes([plain[14] ^ 0x20]) + plain[15:])
    case(f"{here} not ours by address", "PASS_NOT_OURS", ether() / ip(family, dst=other) / udp(ports["l2"]))
    case(f"{here} not ours by port", "PASS_NOT_OURS", ether() / ip(family) / udp(9))
    case(f"{here} echo to somebody else", "PASS_NOT_OURS", ether() / ip(family, dst=other) / echo(family))
    case(f"{here} fragment for somebody else", "PASS_NOT_OURS",
         ether() / (ip(4, dst=other, frag=9, proto=17) if family == 4 else
                    ip(6, dst=other) / IPv6ExtHdrFragment(offset=9, nh=17)) / Raw(b"x" * 40))
    for length, header_type in ((19, tcp), (7, udp)):
        body = raw(ip(family) / header_type(ports["l2"]))[header - 14:][:length]
        number = 6 if header_type is tcp else 17
        short = ip(4, proto=number) if family == 4 else ip(6, nh=number)
        case(f"{here} {header_type.__name__} cut short", "PASS_TRUNCATED",
             raw(ether() / short / Raw(body)) + bytes(20))
    number = 1 if family == 4 else 58
    short = ip(4, proto=1) if family == 4 else ip(6, nh=58)
    case(f"{here} echo cut short", "PASS_TRUNCATED", ether() / short / Raw(raw(echo(family))[:7]))
    later = ip(4, frag=185, flags="MF", proto=6) if family == 4 else ip(6) / IPv6ExtHdrFragment(offset=185, m=1, nh=6)
    case(f"{here} later fragment", "PASS_FRAGMENT", ether() / later / Raw(b"x" * 64))
    last = ip(4, frag=1, flags="", proto=17) if family == 4 else ip(6) / IPv6ExtHdrFragment(offset=1, m=0, nh=17)
    case(f"{here} last fragment", "PASS_FRAGMENT", ether() / last / Raw(b"x" * 64))
    for kind, message in (("unreachable", ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach()),
                          ("echo reply", ICMP(type=0) if family == 4 else ICMPv6EchoReply())):
        case(f"{here} {kind}", "PASS_ICMP", ether() / ip(family) / message / Raw(b"x" * 40))
    case(f"{here} echo from itself", "PASS_ICMP", ether() / ip(family, src=VIP4 if family == 4 else VIP6) / echo(family))
    case(f"{here} echo from a group", "PASS_ICMP", ether() / ip(family, src="224.0.0.1" if family == 4 else "ff02::1") / echo(family))
    case(f"{here} echo from nowhere", "PASS_ICMP", ether() / ip(family, src="0.0.0.0" if family == 4 else "::") / echo(family))
    case(f"{here} echo from loopback", "PASS_ICMP", ether() / ip(family, src="127.0.0.1" if family == 4 else "::1") / echo(family))
    case(f"{here} echo with a code", "PASS_ICMP", ether() / ip(family) / echo(family, code=1))
    marked = ip(4, options=[IPOption_NOP()] * 4) if family == 4 else ip(6) / IPv6ExtHdrDestOpt()
    case(f"{here} echo with options", "PASS_ICMP", ether() / marked / echo(family))
    first = ip(4, flags="MF") if family == 4 else ip(6) / IPv6ExtHdrFragment(offset=0, m=1)
    case(f"{here} first fragment of an echo", "PASS_ICMP", ether() / first / echo(family))
    case(f"{here} gre", "PASS_PROTOCOL", ether() / ip(family) / GRE() / Raw(b"x" * 20))
    foreign = ip(4, proto=58) / Raw(raw(echo(6))) if family == 4 else ip(6, nh=1) / Raw(raw(echo(4)))
    case(f"{here} icmp of the other family", "PASS_PROTOCOL", ether() / foreign)
    case(f"{here} orphaned", "PASS_ORPHANED", ether() / ip(family) / udp(ports["l2"]), orphan="pass")
    case(f"{here} orphaned, last hop", "PASS_ORPHANED", ether() / ip(family, ttl=1) / udp(ports["ipip4"]), orphan="pass")

# Frames for others pass, whatever is in them; those to any address of this host's are its own.
for family in (4, 6):
    group = "01:00:5e:00:00:12" if family == 4 else "33:33:00:00:00:12"
    big = udp(ports["l2-narrow"], 200)
    for words, mac in (("a stranger", STRANGER_MAC), ("a group", group), ("all", "ff:ff:ff:ff:ff:ff"),
                       ("nobody", "00:00:00:00:00:00"), ("another virtual router", "00:00:5e:00:01:08")):
        here = f"v{family} for {words}"
        rest = (*TUNNELS, *LOCALS, "nat", "fullnat", "nobody", "l2-unresolved") if mac == STRANGER_MAC else ()
        for port in ("l2", *rest):
            case(f"{here} {port}", "PASS_OTHER_HOST", ether(dst=mac) / ip(family) / udp(ports[port]))
        case(f"{here} one tag", "PASS_OTHER_HOST", ether(dst=mac) / Dot1Q(vlan=7) / ip(family) / udp(ports["l2"]))
        case(f"{here} echo", "PASS_OTHER_HOST", ether(dst=mac) / ip(family) / echo(family))
        case(f"{here} too big", "PASS_OTHER_HOST", ether(dst=mac) / ip(family) / big)
        case(f"{here} error", "PASS_OTHER_HOST", ether(dst=mac) / too_big(family, shortest(family, "udp", "l2")))
        case(f"{here} last hop", "PASS_OTHER_HOST", ether(dst=mac) / ip(family, ttl=1) / udp(ports["l2"]))
        case(f"{here} denied", "PASS_OTHER_HOST",
             ether(dst=mac) / ip(family, src=DENIED4 if family == 4 else DENIED6) / udp(ports["ipip4"]))
    here = f"v{family} by a virtual router's address"
    for port in ("l2", "ipip4", "gue6"):
        forwards(f"{here} {port}", ether(dst=VIRTUAL_MAC) / ip(family) / udp(ports[port]), port)
    answers(f"{here} echo", ether(dst=VIRTUAL_MAC) / ip(family) / echo(family))

bad = bytearray(raw(ether() / ip(4) / udp(ports["l2"])))
bad[14] = 0x44
case("v4 header of 16 bytes", "PASS_MALFORMED", bytes(bad))
bad[14] = 0x4F
case("v4 header longer than the packet", "PASS_MALFORMED", bytes(bad))
bad[14], bad[16], bad[17] = 0x45, 0, 19
case("v4 shorter than its header", "PASS_MALFORMED", bytes(bad))
case("v6 from a mapped address", "PASS_MALFORMED", ether() / ip(6, src="::ffff:" + CLIENT4) / udp(ports["l2"]))
case("v6 to a mapped address", "PASS_MALFORMED", ether() / ip(6, dst="::ffff:" + VIP4) / udp(ports["l2"]))
case("v6 with segments left", "PASS_PROTOCOL",
     ether() / ip(6) / IPv6ExtHdrRouting(addresses=["fd00::99"], segleft=1) / udp(ports["l2"]))
case("v6 with nothing behind", "PASS_PROTOCOL", ether() / ip(6, nh=59))
chain = IPv6ExtHdrDestOpt()
for _ in range(4):
    chain = chain / IPv6ExtHdrDestOpt()
forwards("v6 five extensions", ether() / ip(6) / chain / udp(ports["l2"]), "l2")
case("v6 six extensions", "PASS_PROTOCOL", ether() / ip(6) / chain / IPv6ExtHdrDestOpt() / udp(ports["l2"]))
case("v6 extension cut short", "PASS_TRUNCATED", ether() / ip(6, nh=60) / Raw(bytes([17, 0, 1, 4])))
case("v6 extension longer than the packet", "PASS_TRUNCATED", ether() / ip(6, nh=60) / Raw(bytes([17, 9]) + bytes(30)))

# A next hop in a VLAN: one tag, that one.
for family in (4, 6):
    for port in IN_VLAN:
        there = f"v{family} {port}"
        forwards(f"{there} udp", ether() / ip(family) / udp(ports[port], 200), port, padding=bytes(3))
        forwards(f"{there} tcp, one tag", ether() / Dot1Q(vlan=7, prio=5, id=1) / ip(family) / tcp(ports[port]), port)
        forwards(f"{there} udp, two tags", ether() / Dot1AD(vlan=9, prio=3) / Dot1Q(vlan=8, prio=1) / ip(family) / udp(ports[port]), port)
        reports(f"{there}, quoted by an error", ether() / too_big(family, shortest(family, "tcp", port)), port,
                flow=ip(family) / tcp(ports[port]))

# A backend that is this host: the packet stays as it is, whatever the forwarding, and no MTU is in its way.
for family in (4, 6):
    for port in LOCALS:
        case(f"v{family} {port} udp", "PASS_LOCAL", ether() / ip(family) / udp(ports[port], 200))
        case(f"v{family} {port} tcp, one tag", "PASS_LOCAL", ether() / Dot1Q(vlan=7) / ip(family) / tcp(ports[port]))
        case(f"v{family} {port}, quoted by an error", "PASS_LOCAL",
             ether() / too_big(family, shortest(family, "tcp", port)))
        first, _, last = pieces(family, "udp", port, 0x3000 + ports[port])
        case(f"v{family} {port} first fragment", "PASS_LOCAL", first)
        case(f"v{family} {port} last fragment", "PASS_LOCAL", last, before=first)
        # It has arrived (RFC 1122, 3.2.1.7): no hop is left to count.
        for ttl in (0, 1):
            case(f"v{family} {port}, time to live {ttl}", "PASS_LOCAL", ether() / ip(family, ttl=ttl) / udp(ports[port]))
        case(f"v{family} {port}, quoted by an error, last hop", "PASS_LOCAL",
             ether() / too_big(family, shortest(family, "tcp", port), ttl=1))
        first, _, last = pieces(family, "udp", port, 0x3800 + ports[port], ttl=1)
        case(f"v{family} {port} first fragment, last hop", "PASS_LOCAL", first)
        case(f"v{family} {port} last fragment, last hop", "PASS_LOCAL", last, before=first)

# --- dropped ------------------------------------------------------------------------------------------

for family in (4, 6):
    here = f"v{family}"
    denied = ip(family, src=DENIED4 if family == 4 else DENIED6)
    case(f"{here} denied", "DROP_DENIED", ether() / denied / udp(ports["ipip4"]))
    case(f"{here} denied, orphaned", "DROP_DENIED", ether() / denied / tcp(ports["ipip4"]), orphan="pass")
    first = ip(4, flags="MF") if family == 4 else ip(6) / IPv6ExtHdrFragment(offset=0, m=1)
    case(f"{here} orphaned, dropped", "DROP_ORPHANED", ether() / ip(family) / udp(ports["l2"]), orphan="drop")
    case(f"{here} orphaned first fragment", "DROP_ORPHANED", ether() / first / udp(ports["l2"]), orphan="drop")
    case(f"{here} nobody", "DROP_NO_BACKEND", ether() / ip(family) / tcp(ports["nobody"]))
    for port in ("l2", *TUNNELS):
        for ttl in (0, 1):
            case(f"{here} {port} ttl {ttl}", "DROP_TTL_EXPIRED", ether() / ip(family, ttl=ttl) / udp(ports[port]))
    for port in ("l2-unresolved", "ipip-unresolved", "gue-unresolved"):
        case(f"{here} {port}", "DROP_NO_NEIGHBOUR", ether() / ip(family) / udp(ports[port]))
    for port, overhead in (("l2-narrow", 0), ("ipip4-narrow", 20), ("ipip6-narrow", 40),
                           ("gre4-narrow", 24), ("gue6-narrow", 52)):
        if family == 6 and overhead == 40:
            continue
        fits = 100 - overhead - (20 if family == 4 else 40) - 8
        forwards(f"{here} {port} just fits", ether() / ip(family) / udp(ports[port], fits), port, padding=b"\1" * 9)
        over = ether() / ip(family) / udp(ports[port], fits + 1)
        # What is shorter than the least quote is no packet that a real link would refuse.
        if 100 - overhead < 68:
            case(f"{here} {port} too big", "DROP_TOO_BIG", over)
        else:
            tells(f"{here} {port} too big", over, 100 - overhead)
        tells(f"{here} {port} much too big", ether() / ip(family) / udp(ports[port], 1300), 100 - overhead)
        tells(f"{here} {port} too big, one tag", ether() / Dot1Q(vlan=7) / ip(family) / tcp(ports[port], "A") /
              Raw(bytes(700)), 100 - overhead)
    # Who may not be told: later fragments and groups (RFC 1122, 3.2.2; RFC 4443, 2.4).
    big = udp(ports["l2-narrow"], 200)
    case(f"{here} too big, from a group", "DROP_TOO_BIG",
         ether() / ip(family, src="224.0.0.1" if family == 4 else "ff02::1") / big)
    case(f"{here} too big, from nowhere", "DROP_TOO_BIG", ether() / ip(family, src="0.0.0.0" if family == 4 else "::") / big)
    if family == 4:
        tells("v4 too big, may be fragmented", ether() / ip(4, flags="") / big, 100)
        options = [IPOption_NOP()] * 40
        tells("v4 too big, with options", ether() / ip(4, options=options) / big, 100)
    first, _, _ = pieces(family, "udp", "l2-narrow", 0x4000 + family)
    tells(f"{here} too big, first fragment", first, 100)
    # Cut by somebody to a short piece and a long one.
    number, body = 0x4010 + family, raw(UDP(sport=40000, dport=ports["l2-narrow"], len=208) / Raw(bytes(200)))
    short, long = [
        ether() / (ip(4, flags="MF" if more else "", frag=at, id=number, proto=17) if family == 4 else
                   ip(6) / IPv6ExtHdrFragment(nh=17, offset=at, m=more, id=number)) / Raw(part)
        for at, more, part in ((0, 1, body[:16]), (2, 0, body[16:]))]
    forwards(f"{here} l2-narrow short first fragment", short, "l2-narrow", flow=ip(family) / udp(ports["l2-narrow"]))
    case(f"{here} too big, later fragment", "DROP_TOO_BIG", long, before=short)
    for port, limit in (("ipip4", 65535 - 20), ("gre4", 65535 - 24), ("gue4", 65535 - 32),
                        ("ipip6", 65535), ("gre6", 65535 - 4), ("gue6", 65535 - 12)):
        length = limit - (20 if family == 4 else 40) - 8
        if length + 8 > 65535 - (20 if family == 4 else 0):
            continue
        forwards(f"{here} {port} as long as can be", ether() / ip(family) / udp(ports[port], length), port)
        if (family, port) != (4, "ipip6"):
            case(f"{here} {port} too long", "DROP_NO_ROOM", ether() / ip(family) / udp(ports[port], length + 1))

# --- every way, family and protocol -------------------------------------------------------------------

for family in (4, 6):
    denied = {"src": DENIED4 if family == 4 else DENIED6}
    nowhere = {"src": "0.0.0.0" if family == 4 else "::"}
    for transport in ("tcp", "udp"):
        def to(port, length=10, **changes):
            header = TCP(sport=44000, dport=ports[port], flags="S") if transport == "tcp" else UDP(sport=44000, dport=ports[port])
            return ether() / ip(family, **changes) / header / Raw(bytes(length))

        for way, (added, _, outer_family, _) in EVERY_WAY.items():
            here = f"v{family} {way} {transport},"
            case(f"{here} denied", "DROP_DENIED", to(f"{way} denied", **denied))
            case(f"{here} no neighbour", "DROP_NO_NEIGHBOUR", to(f"{way} denied"))
            case(f"{here} backend down", "DROP_NO_BACKEND", to(f"{way} down"))
            case(f"{here} orphaned", "PASS_ORPHANED", to(way), orphan="pass")
            case(f"{here} orphaned, dropped", "DROP_ORPHANED", to(way), orphan="drop")
            case(f"{here} last hop here", "DROP_TTL_EXPIRED", to(way, ttl=1))
            tells(f"{here} too large", to(f"{way} small", 400), EVERY_MTU - added)
            case(f"{here} too large, from nowhere", "DROP_TOO_BIG", to(f"{way} small", 400, **nowhere))
            if outer_family is not None:
                case(f"{here} here", "PASS_LOCAL", to(f"{way} here"))
            else:
                case(f"{here} nobody", "DROP_NO_BACKEND", to(f"{way} nobody"))
                case(f"{here} no room for flows", "DROP_NAT_FULL", to(way), full=True)
            # One byte more than the length in the outer header can say.
            longest = 65535 - (added if outer_family == 4 else added - 40)
            if way in TUNNELS and longest < 65535 + (0 if family == 4 else 40):
                short = len(raw(to(way, 0))) - 14
                case(f"{here} too long by one", "DROP_NO_ROOM", to(way, longest + 1 - short))
        case(f"v{family} fullnat {transport}, no source", "DROP_NO_PORT", to("sourceless"))
        # The backend itself is the client: its source has to be translated, and there is nothing to translate it to.
        own = {"src": BACKEND4 if family == 4 else BACKEND6}
        case(f"v{family} nat {transport}, client on the backend, no source", "DROP_NO_PORT", to("nat-sourceless", **own))

# --- connection IDs -----------------------------------------------------------------------------------

for family in (4, 6):
    for way, (text, server, key) in CIDS.items():
        here, port, cid = f"v{family} {way} by id,", f"{way} by id", bytes.fromhex(text)

        def quic(head, body=bytes(range(40))):
            return ether() / ip(family) / UDP(sport=44000, dport=ports[port]) / Raw(head + body)

        def long(said):
            return bytes([0xC3, 0, 0, 0, 1, said]) + cid

        named = backend_of[ports[way]]
        forwards(f"{here} short header", quic(bytes([0x41]) + cid), None, backend=named)
        forwards(f"{here} long header", quic(long(len(cid))), None, backend=named)
        forwards(f"{here} from another address", ether() / ip(family, src="192.0.2.99" if family == 4 else "2001:db8::99") /
                 UDP(sport=5, dport=ports[port]) / Raw(bytes([0x41]) + cid + bytes(40)), None, backend=named)
        forwards(f"{here} shorter than its config", quic(long(len(cid) - 1)), None, backend=by_ring)
        # Servers may append bytes, unless the ID says how long it is (5.4).
        says_length = cid[0] & 31 == len(cid) - 1
        forwards(f"{here} longer than its config", quic(long(len(cid) + 1)), None, backend=by_ring if says_length else named)
        forwards(f"{here} of another config", quic(bytes([0x41, cid[0] ^ 0x60]) + cid[1:]), None, backend=by_ring)
        forwards(f"{here} of nobody", quic(bytes([0x41, cid[0], cid[1] ^ 1]) + cid[2:]), None, backend=by_ring)
        forwards(f"{here} cut short", quic(bytes([0x41]) + cid[:-1], b""), None, backend=by_ring)
        forwards(f"{here} tcp", ether() / ip(family) / TCP(sport=44000, dport=ports[port], flags="A") / Raw(bytes([0x41]) + cid + bytes(40)),
                 None, backend=by_ring)

# --- errors about tunnels -----------------------------------------------------------------------------


def outer(family, kind, inside, inner=4, **changes):
    """A packet as a tunnel of ours sent it: `kind` is ipip, gre, gue or gue1."""
    packet = ip(inner) / inside
    layer = (IP(src=OUTER4, dst=BACKEND4, id=0, flags="DF", ttl=60) if family == 4
             else IPv6(src=OUTER6, dst=BACKEND6, hlim=60))
    for key, value in changes.items():
        setattr(layer, key, value)
    if kind == "ipip":
        return raw(layer / packet)
    if kind == "gre":
        return raw(layer / GRE() / packet)
    header = bytes([0, 4 if inner == 4 else 41, 0, 0]) if kind == "gue" else b""
    return raw(layer / UDP(sport=50000, dport=6080, chksum=0) / Raw(header + raw(packet)))


def about(family, quote, kind=None, **changes):
    """To the outer source, from a router: too big unless `kind` says otherwise."""
    there = OUTER4 if family == 4 else OUTER6
    if kind is None:
        return ether() / too_big(family, quote, **{"dst": there, **changes})
    source = ROUTER4 if family == 4 else ROUTER6
    return ether() / ip(family, **{"src": source, "dst": there, **changes}) / kind / Raw(quote)


def narrow(mtu):
    return ICMP(type=3, code=4, nexthopmtu=mtu)


for family in (4, 6):
    here = f"v{family} tunnel error"
    least = 28 if family == 4 else 48
    for kind in ("ipip", "gre", "gue", "gue1"):
        for inner in (4, 6):
            sent = outer(family, kind, tcp(ports["l2"], "A") / Raw(bytes(600)), inner)
            case(f"{here} {kind} of v{inner}", "DROP_TUNNEL_ERROR", about(family, sent[:576]), noted="mtu 1400")
            case(f"{here} {kind} of v{inner}, 8 bytes", "DROP_TUNNEL_ERROR", about(family, sent[:least]), noted="mtu 1400")
            case(f"{here} {kind} of v{inner}, 7 bytes", "PASS_NOT_OURS", about(family, sent[:least - 1]))
    sent = outer(family, "ipip", udp(ports["l2"], 1400))
    case(f"{here}, one tag", "DROP_TUNNEL_ERROR",
         ether() / Dot1Q(vlan=7) / about(family, sent[:least])[1], noted="mtu 1400")
    kinds = ([(ICMP(type=3, code=code), f"3/{code}") for code in (0, 1, 2, 3, 13)] + [(ICMP(type=11), "11/0"), (ICMP(type=12, ptr=9), "12/0")]
             if family == 4 else
             [(ICMPv6DestUnreach(code=code), f"1/{code}") for code in (0, 1, 3, 4)] +
             [(ICMPv6TimeExceeded(), "3/0"), (ICMPv6ParamProblem(code=1, ptr=6), "4/1")])
    for kind, words in kinds:
        case(f"{here} {words}", "DROP_TUNNEL_ERROR", about(family, sent[:least], kind), noted=f"unreachable {words}")
    # Somebody else's packets, or not quite ours.
    others = ([("from elsewhere", outer(4, "ipip", udp(1), src="10.0.0.2")), ("to elsewhere", outer(4, "ipip", udp(1), dst="10.0.0.12"))]
              if family == 4 else
              [("from elsewhere", outer(6, "ipip", udp(1), src="fd10::2")), ("to elsewhere", outer(6, "ipip", udp(1), dst="fd10::12"))])
    for words, quote in others:
        case(f"{here} {words}", "PASS_NOT_OURS", about(family, quote))
    quote = bytearray(outer(family, "gue", udp(1)))
    quote[(20 if family == 4 else 40) + 3] += 1
    case(f"{here} of another port", "PASS_NOT_OURS", about(family, bytes(quote)))
    quote = bytearray(outer(family, "gue", udp(1)))
    at = 20 if family == 4 else 40
    for port, verdict, noted in ((0xC000, "DROP_TUNNEL_ERROR", "mtu 1400"), (0xBFFF, "PASS_NOT_OURS", None)):
        quote[at:at + 2] = struct.pack("!H", port)
        case(f"{here} of gue from port {port}", verdict, about(family, bytes(quote)), noted=noted)
    # The checksum: damaged anywhere, and over messages of every remainder, up to the longest and beyond.
    message = 34 if family == 4 else 54
    for length in (*range(least, least + 4), 1271, 1272):
        error = raw(about(family, sent[:length]))
        case(f"{here} of {length} quoted bytes", "DROP_TUNNEL_ERROR", error, noted="mtu 1400")
        for where, place in (("the sum", message + 2), ("the MTU", message + 7), ("the last byte", len(error) - 1)):
            bad = bytearray(error)
            bad[place] ^= 1
            case(f"{here} of {length} quoted bytes, damaged in {where}", "PASS_NOT_OURS", bytes(bad))
    case(f"{here} of 1273 quoted bytes", "PASS_NOT_OURS", about(family, sent[:1273]))
    case(f"{here} to somebody else", "PASS_NOT_OURS", about(family, sent, dst="10.0.0.2" if family == 4 else "fd10::2"))
    if family == 4:
        for told, noted in ((1399, 1399), (576, 576), (575, 576), (68, 576), (1, 576)):
            case(f"{here} telling {told}", "DROP_TUNNEL_ERROR", about(4, sent[:least], narrow(told)), noted=f"mtu {noted}")
        # RFC 1191, 7.1: an old router tells none, and the plateau below the refused length counts.
        for length, noted in ((1448, 1006), (1492, 1006), (1493, 1492), (9000, 8166), (1006, 576), (300, 576)):
            old = bytearray(sent[:least])
            old[2:4] = struct.pack("!H", length)
            case(f"{here} telling none about {length}", "DROP_TUNNEL_ERROR", about(4, bytes(old), narrow(0)), noted=f"mtu {noted}")
    else:
        for told, noted in ((1280, "mtu 1280"), (1279, None), (0, None), (70000, "mtu 70000")):
            message = ICMPv6PacketTooBig(mtu=told)
            case(f"{here} telling {told}", "DROP_TUNNEL_ERROR", about(6, sent[:least], message), noted=noted)

# --- several addresses and ports ----------------------------------------------------------------------

WAYS = {L2: "l2", IPIP4: "ipip4", IPIP6: "ipip6"}
for family in (4, 6):
    address = (lambda last: f"198.51.100.{last}") if family == 4 else (lambda last: f"fd01::{last:x}")
    here = f"v{family} prefix"
    for last, port, backend in (
            (200, 1, IPIP4), (200, 8000, IPIP4), (1, 65535, IPIP4), (0, 0, IPIP4),
            (18, 8000, L2), (18, 8009, L2), (18, 8010, IPIP6), (18, 8018, IPIP6), (18, 8019, L2),
            (18, 8099, L2), (18, 7999, IPIP4), (18, 8100, IPIP4), (31, 8050, L2), (32, 8050, IPIP4),
            (17, 8000, L2), (17, 8001, IPIP6), (17, 8010, IPIP6), (17, 9, IPIP6)):
        for header in (tcp, udp):
            forwards(f"{here} {header.__name__} to {last} port {port} by {WAYS[backend]}",
                     ether() / ip(family, dst=address(last)) / header(port), None, backend=backend)
    answers(f"{here} echo", ether() / ip(family, dst=address(77)) / echo(family))
    message = ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach()
    case(f"{here} unreachable", "PASS_ICMP", ether() / ip(family, dst=address(77)) / message / Raw(b"x" * 40))
    later = (ip(4, dst=address(77), frag=9, proto=17) if family == 4
             else ip(6, dst=address(77)) / IPv6ExtHdrFragment(offset=9, nh=17))
    case(f"{here} later fragment", "PASS_FRAGMENT", ether() / later / Raw(b"x" * 40))
    case(f"{here} last hop", "DROP_TTL_EXPIRED", ether() / ip(family, dst=address(77), ttl=1) / udp(5))
    for port, backend in ((8009, L2), (8010, IPIP6), (53, IPIP4)):
        for transport in ("tcp", "udp"):
            quote = shortest(family, transport, port, src=address(18))
            reports(f"{here} too big, quoting {transport} from port {port}",
                    ether() / too_big(family, quote, dst=address(18)), None, backend=backend)
    inside, outside = ("198.51.101.3", "198.51.101.4") if family == 4 else ("fd02::3", "fd02::4")
    forwards(f"{here} of one protocol", ether() / ip(family, dst=inside) / tcp(81), None, backend=L2)
    case(f"{here} of the other protocol", "PASS_NOT_OURS", ether() / ip(family, dst=inside) / udp(81))
    quote = shortest(family, "udp", 81, src=inside)
    case(f"{here} too big, quoting the other protocol", "PASS_ICMP", ether() / too_big(family, quote, dst=inside))
    case(f"{here} beside the range", "PASS_NOT_OURS", ether() / ip(family, dst=inside) / tcp(82))
    case(f"{here} beside the addresses", "PASS_NOT_OURS", ether() / ip(family, dst=outside) / tcp(81))
    case(f"{here} echo beside the addresses", "PASS_NOT_OURS", ether() / ip(family, dst=outside) / echo(family))

# --- translated ---------------------------------------------------------------------------------------

# What the tests give translated flows: so many ports from the first on.
FIRST_PORT, PORT_COUNT = 10000, 22768


def ends(frame, port, family):
    """Where the backend sees the flow come from, and where the flow goes there: addresses and ports."""
    layer = ip_layer(frame)
    transport = layer[TCP] if layer.haslayer(TCP) else layer[UDP]
    hop = destinations[backends_of[ports[port], family] - 1]
    there = (hop["address"], hop["port"] or transport.dport)
    # A backend takes nothing from its own address.
    if hop["forwarding"] == "nat" and layer.src != hop["address"]:
        return (layer.src, transport.sport), there
    return (hop["tunnelSource"], FIRST_PORT + (flow_hash(layer) * PORT_COUNT >> 32)), there


def moved(frame, source, target):
    """The packet with other addresses and ports, and every sum made anew by scapy."""
    frame = copy.deepcopy(frame)
    layer = ip_layer(frame)
    layer.src, layer.dst = source[0], target[0]
    if layer.version == 4:
        del layer.chksum
    transport = layer.getlayer(TCP) or layer.getlayer(UDP)
    if transport is not None:
        transport.sport, transport.dport = source[1], target[1]
        if not (isinstance(transport, UDP) and transport.chksum == 0):
            del transport.chksum
    return frame


def enters(name, frame, port, family, padding=b"", before=None, taken_out=False):
    built = Ether(raw(frame))
    assert raw(built) == raw(frame), name
    source, target = ends(built, port, family)
    backend = backends_of[ports[port], family]
    sent = in_vlan(set_macs(one_hop_less(moved(built, source, target)), backend), destinations[backend - 1]["vlan"])
    case(name, "TX_FORWARDED", raw(built) + padding, raw(sent) + padding, before=before, taken_out=taken_out)


def answer_to(frame, port, family, transport, **changes):
    """What the backend answers to this packet, as it comes to the balancer."""
    source, target = ends(Ether(raw(frame)), port, family)
    transport = copy.deepcopy(transport)
    transport.sport, transport.dport = target[1], source[1]
    hop = HOP_MAC % backends_of[ports[port], family]
    return ether(src=hop) / ip(family, src=target[0], dst=source[0], **changes) / transport


def to_client(built):
    """Back by the way that the client's packets came."""
    built[Ether].src, built[Ether].dst = OUR_MAC, CLIENT_MAC
    return built


def leaves(name, first, answer, padding=b"", taken_out=False):
    asked = ip_layer(Ether(raw(first)))
    transport = asked[TCP] if asked.haslayer(TCP) else asked[UDP]
    built = Ether(raw(answer))
    sent = to_client(one_hop_less(moved(built, (asked.dst, transport.dport), (asked.src, transport.sport))))
    case(name, "TX_REPLY", raw(built) + padding, raw(with_tags(sent, tags_of(Ether(raw(first))))) + padding, before=first, taken_out=taken_out)


def carried(check, before, after):
    """A sum over words that were exchanged, by arithmetic modulo 65535."""
    def total(data):
        return sum(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2))
    return (check - total(after) + total(before)) % 65535


def requoted(quote, source, target):
    """A quoted packet with other addresses and ports; a sum that is quoted goes along."""
    data = bytearray(quote)
    four = data[0] >> 4 == 4
    addresses = slice(12, 20) if four else slice(8, 40)
    start, number = ((data[0] & 15) * 4, data[9]) if four else (40, data[6])
    old = bytes(data[addresses]) + bytes(data[start:start + 4])
    data[addresses] = b"".join(ipaddress.ip_address(one[0]).packed for one in (source, target))
    data[start:start + 4] = struct.pack(">HH", source[1], target[1])
    new = bytes(data[addresses]) + bytes(data[start:start + 4])
    if four:
        data[10:12] = carried(int.from_bytes(data[10:12], "big"), old[:8], new[:8]).to_bytes(2, "big")
    at = start + (16 if number == 6 else 6)
    if at + 2 <= len(data):
        data[at:at + 2] = carried(int.from_bytes(data[at:at + 2], "big"), old, new).to_bytes(2, "big")
    return bytes(data)


def error_about(family, quote, source, target):
    """A router says that the quoted packet is too big for the way behind it."""
    message = ICMP(type=3, code=4, nexthopmtu=1400) if family == 4 else ICMPv6PacketTooBig(mtu=1400)
    return ip(family, src=source, dst=target) / message / Raw(quote)


WAYS_BACK = ("nat", "fullnat", "nat-mapped", "fullnat-mapped", "own", "own-mapped")
sport = 41000
for family in (4, 6):
    client, router, vip = {4: (CLIENT4, ROUTER4, VIP4), 6: (CLIENT6, ROUTER6, VIP6)}[family]
    for port in WAYS_BACK:
        for what in ("tcp", "udp"):
            sport += 1
            here = f"v{family} {port} {what}"

            def asks(flags="S", **changes):
                body = TCP(sport=sport, dport=ports[port], flags=flags, seq=1) if what == "tcp" else UDP(sport=sport, dport=ports[port])
                return ip(family, **changes) / body / Raw(b"hello")

            first = ether() / asks()
            enters(here, first, port, family)
            enters(f"{here} again", ether() / asks("A", tos=0xBB), port, family, before=first)
            enters(f"{here} one tag, padded", ether() / Dot1Q(vlan=7) / asks("PA"), port, family, padding=bytes(range(1, 8)), before=first)
            said = (TCP(flags="SA", seq=9, ack=2) if what == "tcp" else UDP()) / Raw(b"answer")
            leaves(f"{here} answer", first, answer_to(first, port, family, said))
            ended = (TCP(flags="FA", seq=9, ack=2) if what == "tcp" else UDP()) / Raw(bytes(range(250)))
            leaves(f"{here} long answer, padded", first, answer_to(first, port, family, ended, ttl=2), padding=b"\0" * 5)
            case(f"{here} answer, last hop", "DROP_TTL_EXPIRED", answer_to(first, port, family, said, ttl=1), before=first)
            if what == "tcp":
                gone = f"{here} taken out,"
                data = TCP(sport=sport, dport=ports[port], flags="PA", seq=2, ack=0xFFFFFFFE, options=[("NOP", None)] * 8)
                for words, tags in (("", []), (" two tags,", [Dot1AD(vlan=9, prio=3), Dot1Q(vlan=8)])):
                    resets(f"{gone}{words} data", with_tags(ether() / ip(family) / data / Raw(b"x" * 1200), tags), first)
                    resets(f"{gone}{words} end", with_tags(ether() / asks("FA", ttl=1) if family == 4 else ether() / asks("FA", hlim=1), tags), first)
                resets(f"{gone} padded", ether() / asks("A"), first, padding=bytes(range(1, 30)))
                around = {"options": [IPOption_NOP()] * 8} if family == 4 else {}
                chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / data if family == 6 else data
                resets(f"{gone} more headers", ether() / ip(family, **around) / chain / Raw(b"x"), first)
                for flags in ("SA", "A", "FPA"):
                    told = TCP(flags=flags, seq=9, ack=2) / Raw(b"answer")
                    resets(f"{gone} answer {flags}", answer_to(first, port, family, told), first)
                enters(f"{gone} reset", ether() / asks("RA"), port, family, before=first, taken_out=True)
                leaves(f"{gone} reset by the backend", first, answer_to(first, port, family, TCP(flags="R", seq=9)), taken_out=True)
            # An error from the backend's side about a packet to it, and one from the client's side about an answer.
            source, target = ends(Ether(raw(first)), port, family)
            sent = raw(ip_layer(moved(Ether(raw(first)), source, target)))
            for length in (len(sent), (28 if family == 4 else 48)):
                quote = sent[:length]
                error = ether(src=HOP_MAC % backends_of[ports[port], family]) / error_about(family, quote, router, source[0])
                mine = requoted(quote, (client, sport), (vip, ports[port]))
                out = to_client(one_hop_less(ether() / error_about(family, mine, vip, client)))
                case(f"{here} error about {length} bytes of a request", "TX_ICMP_ERROR", error, out, before=first)
            there = raw(ip(family, src=vip, dst=client) / (TCP(sport=ports[port], dport=sport, flags="A") if what == "tcp" else
                        UDP(sport=ports[port], dport=sport)) / Raw(b"x" * 100))
            for length in (len(there), (28 if family == 4 else 48)):
                quote = there[:length]
                error = ether() / error_about(family, quote, router, vip)
                mine = requoted(quote, target, source)
                # Its own source stays where the client's does.
                who = router if port.startswith("nat") else source[0]
                out = set_macs(one_hop_less(ether() / error_about(family, mine, who, target[0])), backends_of[ports[port], family])
                case(f"{here} error about {length} bytes of an answer", "TX_ICMP_ERROR", error, out, before=first)
    # Requests leave with the tags of the backend's side, answers with those of the client's.
    TAGS = {"no tag": [], "one tag": [Dot1Q(vlan=7, prio=5)], "two tags": [Dot1AD(vlan=9, prio=3), Dot1Q(vlan=8)]}
    for port in ("nat", "fullnat", "nat-vlan", "fullnat-vlan", "nat-untagged", "fullnat-untagged"):
        for words, tags in TAGS.items():
            sport += 1
            here = f"v{family} {port} client with {words}"
            body = UDP(sport=sport, dport=ports[port]) / Raw(b"hello")
            first = with_tags(ether() / ip(family) / body, tags)
            enters(here, first, port, family)
            said = answer_to(with_tags(first, []), port, family, UDP() / Raw(b"answer"))
            for of, back in TAGS.items():
                leaves(f"{here}, answer with {of}", first, with_tags(said, back), padding=b"\1" * 3)
            source, target = ends(Ether(raw(with_tags(first, []))), port, family)
            quote = raw(ip_layer(moved(Ether(raw(with_tags(first, []))), source, target)))
            error = ether(src=HOP_MAC % backends_of[ports[port], family]) / error_about(family, quote, router, source[0])
            mine = requoted(quote, (client, sport), (vip, ports[port]))
            out = to_client(one_hop_less(ether() / error_about(family, mine, vip, client)))
            case(f"{here}, error about a request", "TX_ICMP_ERROR", with_tags(error, TAGS["one tag"]),
                 with_tags(out, tags), before=first)
    for port in ("nat", "fullnat"):
        here = f"v{family} {port}"
        plain = UDP(sport=42000, dport=ports[port], chksum=0) / Raw(b"no sum")
        enters(f"{here} without a sum", ether() / ip(family) / plain, port, family)
        if family == 4:
            options = [IPOption_NOP()] * 8
            enters(f"{here} with options", ether() / ip(4, options=options) / udp(ports[port]), port, 4)
        else:
            chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0)
            enters(f"{here} with extensions", ether() / ip(6) / chain / udp(ports[port]), port, 6)
        stranger = raw(ip(family, src=vip, dst=client) / UDP(sport=ports[port], dport=50001) / Raw(b"x" * 40))
        case(f"{here} error about a flow that is not known", "PASS_ICMP", ether() / error_about(family, stranger, router, vip))
        case(f"{here} {port}-unresolved", "DROP_NO_NEIGHBOUR", ether() / ip(family) / udp(ports[f"{port}-unresolved"]))
        tells(f"{here} too big", ether() / ip(family) / udp(ports[f"{port}-narrow"], 200), 100)
        case(f"{here} ttl 1", "DROP_TTL_EXPIRED", ether() / ip(family, ttl=1) / udp(ports[port]))
        fresh = UDP(sport=42001, dport=ports[port]) / Raw(b"one too many")
        case(f"{here} full", "DROP_NAT_FULL", ether() / ip(family) / fresh, full=True)
        # A datagram in pieces: the ports are in the first alone.
        cut = pieces(family, "udp", port, 0x3000 + ports[port])
        whole = ether() / datagram(family, "udp", port)
        source, target = ends(Ether(raw(whole)), port, family)
        for which, piece in enumerate(cut):
            sent = one_hop_less(moved(Ether(raw(whole)), source, target))
            body = raw(ip_layer(sent))[20 if family == 4 else 40:]
            out = set_macs(one_hop_less(Ether(raw(piece))), backends_of[ports[port], family])
            layer = ip_layer(out)
            layer.src, layer.dst = source[0], target[0]
            data = bytearray(raw(out))
            at = 14 + (20 if family == 4 else 48)
            data[at:at + 8] = body[:8] if which == 0 else data[at:at + 8]
            if family == 4:
                data[24:26] = b"\0\0"
                words = sum(int.from_bytes(data[n:n + 2], "big") for n in range(14, 34, 2))
                data[24:26] = (0xFFFF - words % 65535).to_bytes(2, "big")
            case(f"{here} fragment {which}", "TX_FORWARDED", piece, bytes(data), before=None if which == 0 else cut[0])
    case(f"v{family} no source", "DROP_NO_PORT", ether() / ip(family) / udp(ports["sourceless"]))
    own = OWN4 if family == 4 else OWN6
    case(f"v{family} own address, no answer", "TX_FORWARDED", ether() / ip(family, dst=own) / udp(10001),
         forwarded(Ether(raw(ether() / ip(family, dst=own) / udp(10001))), L2))
    # The client is the backend that the ring has for it.
    backend = BACKEND4 if family == 4 else BACKEND6
    for port in ("nat", "nat-mapped"):
        for what in ("tcp", "udp"):
            sport += 1
            here = f"v{family} {port} {what}, client on the backend"
            body = TCP(sport=sport, dport=ports[port], flags="S", seq=1) if what == "tcp" else UDP(sport=sport, dport=ports[port])
            first = ether() / ip(family, src=backend) / body / Raw(b"hello")
            enters(here, first, port, family)
            said = (TCP(flags="SA", seq=9, ack=2) if what == "tcp" else UDP()) / Raw(b"answer")
            leaves(f"{here}, answer", first, answer_to(first, port, family, said))
    case(f"v{family} client on the backend, no source", "DROP_NO_PORT", ether() / ip(family, src=backend) / udp(ports["nat-sourceless"]))

# --- segments that are too large ----------------------------------------------------------------------

# Where the option stands, and what stands before it; the second one is at an odd place.
LAYOUTS = (("first", []), ("behind one", [("NOP", None)]), ("behind others", [("SAckOK", b""), ("WScale", 7)]))
for family in (4, 6):
    for name, before in LAYOUTS:
        for asked, left in ((1460, 1200), (1200, 1200), (536, 536), (9000, 1200)):
            def syn(port, mss, flags="S"):
                options = [*before, ("MSS", mss), ("NOP", None)]
                return TCP(sport=43000, dport=ports[port], flags=flags, seq=1, options=options) / Raw(b"early")

            here = f"v{family} segments of {asked}, {name}"
            for port in ("l2-clamped", "ipip-clamped"):
                frame = ether() / ip(family) / syn(port, asked)
                sent = forwarded(Ether(raw(ether() / ip(family) / syn(port, left))), backend_of[ports[port]])
                case(f"{here}, {port}", "TX_FORWARDED", frame, sent)
            first = ether() / ip(family) / syn("fullnat-clamped", asked)
            wanted = Ether(raw(ether() / ip(family) / syn("fullnat-clamped", left)))
            source, target = ends(wanted, "fullnat-clamped", family)
            sent = set_macs(one_hop_less(moved(wanted, source, target)), backends_of[ports["fullnat-clamped"], family])
            case(f"{here}, fullnat", "TX_FORWARDED", first, sent)
            answer = answer_to(first, "fullnat-clamped", family, syn("fullnat-clamped", asked, "SA"))
            wanted = Ether(raw(answer_to(first, "fullnat-clamped", family, syn("fullnat-clamped", left, "SA"))))
            asked_of = ip_layer(Ether(raw(first)))
            back = moved(wanted, (asked_of.dst, ports["fullnat-clamped"]), (asked_of.src, 43000))
            case(f"{here}, answer", "TX_REPLY", answer, to_client(one_hop_less(back)), before=first)
    here = f"v{family} segments"
    late = TCP(sport=43001, dport=ports["l2-clamped"], flags="A", options=[("MSS", 1460)]) / Raw(b"late")
    forwards(f"{here} of no SYN", ether() / ip(family) / late, "l2-clamped")
    for what, options in (("none", b""), ("cut short", b"\x01\x01\x02\x04"), ("of no length", b"\xfe\x00\x02\x04\x05\xb4\x01\x01"),
                          ("behind the end", b"\x00\x00\x00\x00\x02\x04\x05\xb4"), ("of another length", b"\x02\x06\x05\xb4\x00\x00\x01\x01")):
        odd = raw(ip(family) / TCP(sport=43002, dport=ports["l2-clamped"], flags="S", options=[("NOP", None)] * len(options)))
        start = 20 if family == 4 else 40
        odd = bytearray(odd)
        odd[start + 20:start + 20 + len(options)] = options
        data = bytearray(raw(ether() / (IP if family == 4 else IPv6)(bytes(odd))))
        at = 14 + start
        data[at + 16:at + 18] = b"\0\0"
        addresses = bytes(data[26:34]) if family == 4 else bytes(data[22:54])
        total = sum(int.from_bytes(each[n:n + 2], "big") for each in (addresses, bytes(data[at:])) for n in range(0, len(each), 2))
        total = (total + 6 + len(data) - at) % 65535
        data[at + 16:at + 18] = (65535 - total).to_bytes(2, "big")
        sent = bytearray(data)
        sent[0:6] = bytes.fromhex((HOP_MAC % backend_of[ports["l2-clamped"]]).replace(":", ""))
        sent[6:12] = bytes.fromhex(OUR_MAC.replace(":", ""))
        sent[14 + (8 if family == 4 else 7)] -= 1
        if family == 4:
            sent[24:26] = b"\0\0"
            words = sum(int.from_bytes(sent[n:n + 2], "big") for n in range(14, 34, 2))
            sent[24:26] = (0xFFFF - words % 65535).to_bytes(2, "big")
        case(f"{here}, {what}", "TX_FORWARDED", bytes(data), bytes(sent))

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "packets.json"), "w", encoding="ascii") as file:
    lines = [json.dumps(one) for one in cases]
    file.write('{\n"linkAddresses": %s,\n"destinations": %s,\n"services": %s,\n"cases": [\n%s\n]\n}\n' %
               (json.dumps([OUR_MAC, VIRTUAL_MAC]), json.dumps(destinations), json.dumps(services), ",\n".join(lines)))
print(len(cases), "cases")
