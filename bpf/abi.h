/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The shared facts of the packet path: every struct that lives in a map and every enum that both
 * sides name. The TypeScript codecs are generated from the BTF of the object that is loaded, so
 * this file holds types only: explicit padding, byte order in the type, and no macros (BTF cannot
 * see those). Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
 *
 * Other versions read these maps by the names in here (docs/upgrades.md): zero in a new field means
 * "as before", and numbers that records hold are never changed, nor given to another name.
 */
#pragma once

#include <linux/types.h>
#include "abi_quic.h"
#include "abi_regions.h"

/* What became of a packet. The name says the action; each packet that the program sees is counted
 * under exactly one. Index of `verdict_counts`. Before a packet is known to be ours only PASS is
 * possible. PASS, TX and DROP stay in blocks, in this order: verdict.h reads the action off. */
enum verdict {
	VERDICT_CONTINUE = 0,   /* not an outcome: go on to the next step. Never counted. */
	PASS_NOT_IP,            /* neither IPv4 nor IPv6 behind at most two VLAN tags */
	PASS_MALFORMED,         /* an IP header that is cut short or contradicts itself or the frame,
				 * or IPv6 with an IPv4-mapped address, which no wire may carry */
	PASS_OTHER_HOST,        /* its link-layer destination is another host's, or a group's */
	PASS_NOT_OURS,          /* no service has this address, port and protocol */
	PASS_TRUNCATED,         /* for a virtual address, but ends within its TCP, UDP or ICMP header */
	PASS_FRAGMENT,          /* a later fragment for a virtual address whose first one is not known:
				 * not seen in the last 30 seconds, or not for a service */
	PASS_ICMP,              /* ICMP for a virtual address, other than an echo request to answer or
				 * an error that quotes a packet of a service */
	PASS_PROTOCOL,          /* neither TCP, UDP nor ICMP, for a virtual address */
	PASS_ORPHANED,          /* no heartbeat for too long, and the policy is `pass` */
	PASS_LOCAL,             /* for a backend that is this host itself: as it came, without tunnel */
	TX_FORWARDED,           /* on its way to a backend */
	TX_REPLY,               /* from a backend that does not know the client's side of the flow (nat,
				 * fullnat), on its way to the client */
	TX_ECHO_REPLY,          /* an echo request to a virtual address, answered */
	TX_ICMP_ERROR,          /* an ICMP error that quotes a flow of a service, on its way to the
				 * backend that owns the flow; or, from behind nat, to its client */
	TX_TOO_BIG,             /* larger than the way to the backend carries: its sender is told, by ICMP, how much is */
	TX_RESET,               /* of a translated TCP connection whose backend was taken out: its sender is told
				 * by a reset (a drain whose time is over, maintenance) */
	DROP_DENIED,            /* the service's allow and deny prefixes say no */
	DROP_ORPHANED,          /* no heartbeat for too long, and the policy is `drop` */
	DROP_TTL_EXPIRED,       /* its time to live, or hop limit, ends here */
	DROP_NO_BACKEND,        /* nobody is there to take it */
	DROP_NO_NEIGHBOUR,      /* the next hop's link address is not known (yet) */
	DROP_NO_PORT,           /* nat: every port that was tried is another flow's */
	DROP_NAT_FULL,          /* nat: as many flows as `limits.natFlows` allows are under way */
	DROP_NO_ROOM,           /* no room for the outer header, or for the length in it */
	DROP_TOO_BIG,           /* larger than the way to the backend carries, and its sender may not be
				 * told (a later fragment, an error, a group), or too many were just now */
	DROP_TUNNEL_ERROR,      /* an ICMP error about a tunnel of ours, noted: it has arrived */
	VERDICTS,               /* how many there are; not an outcome */
};

/* How a packet travels to its backend. Numbers stay; new ways are added at the end. */
enum forwarding {
	FORWARDING_NONE = 0,
	FORWARDING_L2,          /* link-layer addresses rewritten */
	FORWARDING_IPIP,        /* RFC 2003, RFC 2473, and both mixed forms (RFC 4213) */
	FORWARDING_GUE,         /* in UDP (draft-ietf-intarea-gue-09) */
	FORWARDING_GRE,         /* RFC 2784, RFC 7676; no key, no checksum */
	FORWARDING_NAT,         /* the destination is translated (RFC 3022); replies come back here */
	FORWARDING_FULLNAT,     /* the source too */
};

/* The two forms of GUE: with a header of four bytes or more, or IP right behind UDP. */
enum gue_variant { GUE_HEADER = 0, GUE_DIRECT };

enum orphan_action { ORPHAN_KEEP = 0, ORPHAN_PASS, ORPHAN_DROP };
enum hash_input { HASH_5_TUPLE = 0, HASH_SOURCE_IP };
/* FULL: every flow is remembered. MINIMAL: those that the ring alone would misplace (after JET,
 * CoNEXT 2021, and Beamer, NSDI 2018). NONE: the ring alone. */
enum tracking { TRACKING_NONE = 0, TRACKING_FULL, TRACKING_MINIMAL };

/* What became of packets that met a slot with a mark, with TRACKING_MINIMAL. Index of `tracking_counts`. */
enum tracking_outcome {
	TRACKING_FOLLOWED = 0,  /* its flow was remembered */
	TRACKING_BEGAN,         /* it opens a flow, which is remembered with the owner */
	TRACKING_KEPT,          /* its flow is older than the window: remembered with the untracked owner */
	TRACKING_LOST,          /* its backend, or the untracked owner, is dead: to the owner */
	TRACKING_UNREMEMBERED,  /* to be remembered, but too many were just now */
	TRACKING_SETTLED,       /* the slot is not changing, and the flow no exception: to the owner */
	TRACKING_OUTCOMES,      /* how many there are; not an outcome */
};

/* What befell the entries of `flows`. Index of `flow_counts`. What the kernel pushes out of the full table does
 * not show: it is what was written and is not there, without what was forgotten. */
enum flow_event {
	FLOW_WRITTEN = 0,       /* one more */
	FLOW_FORGOTTEN,         /* one less, by the program */
	FLOW_REFUSED,           /* the kernel had no element for it */
	FLOW_EVENTS,            /* how many there are; not an event */
};

/* Of the flows that nobody has to remember, one in so many is looked at, to tell how many there are: a power of
 * two, and which ones is in the lowest bits of the hash. */
enum sample { SAMPLE_ONE_IN = 64 };

/* Rings come in classes of size, one map-in-map each; and the slots of each class. */
enum ring_class { RING_SMALL = 0, RING_MEDIUM, RING_LARGE, RING_CLASSES };
enum ring_slots { RING_SMALL_SLOTS = 16384, RING_MEDIUM_SLOTS = 65540, RING_LARGE_SLOTS = 2097152 };

/* Places in `first_link_addresses`. */
enum link_places { FIRST_LINK_ADDRESSES = 4 };

/* The u16 in a ring: 15 bits of backend id (0: nobody), and a mark: flows of this slot may be
 * remembered elsewhere. In a predecessor's ring there are no marks, and 0 in a slot of the service's
 * own scheme says that it is not changing. */
enum slot_word { SLOT_BACKEND_MASK = 0x7fff, SLOT_EXCEPTION = 0x8000 };

/* The u16 that flow_entry.other is: 15 bits of id, and a mark: the client has sent a FIN or RST since the
 * flow opened. It is followed as before, and counts as ended when it is silent for a while. */
enum flow_other { FLOW_OTHER_MASK = 0x7fff, FLOW_CLOSES = 0x8000 };

/* Bits of destination.flags: LIVE may keep the flows it has, ADMITS may get new ones; RESETS is neither, and
 * its translated connections are told so. */
enum destination_flags { DESTINATION_LIVE = 1, DESTINATION_ADMITS = 2, DESTINATION_RESETS = 4 };
/* Bits of next_hop.flags; one of them at most. LOCAL: the destination is this host itself. */
enum next_hop_flags { NEXT_HOP_RESOLVED = 1, NEXT_HOP_LOCAL = 2 };
/* next_hop.vlan: the number of one, or this. */
enum next_hop_vlan { VLAN_AS_RECEIVED = 0, VLAN_NONE = 4096 };
enum policy_action { POLICY_NONE = 0, POLICY_ALLOW, POLICY_DENY };
/* Bits of service_version.flags: without a matching prefix, packets are denied. */
enum service_flags {
	SERVICE_DENY_BY_DEFAULT = 1,
	SERVICE_HAS_POLICY = 2,
	SERVICE_QUIC_LB = 4,
	SERVICE_NAT = 8,        /* its flows are in `nat_flows`, and not in `flows` */
	SERVICE_REHASHED = 16,  /* the predecessor has another scheme: every slot is changing */
	SERVICE_SECOND_CHANCE = 32, /* its packets name alternates (alternates.h) */
	SERVICE_FAILED_OPEN = 64, /* backends that are not live have flows, and keep them */
};

/* How new flows are placed where the ring does not place them. */
enum pick {
	PICK_NONE = 0, PICK_ROUND_ROBIN, PICK_RANDOM, PICK_LEAST_CONNECTIONS, PICK_POWER_OF_TWO, PICK_BOUNDED_LOAD,
};

/* Key of `services`; and of `tunnel_ends`, with the address of a destination, the protocol that its
 * tunnel's outer header names, and the port of GUE, else 0. */
struct service_key {
	__u8 address[16];
	__be16 port;
	__u8 protocol;          /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

/* Services with several addresses or ports ("wildcard services") are reached through two tries with
 * longest-prefix match (BPF_MAP_TYPE_LPM_TRIE). Key of `address_groups`, whose value is the group
 * that the longest prefix leads to, of `decap_addresses`, `decap_local` and `decap_sources`; addresses are mapped, so IPv4
 * prefixes have 96 bits more. */
struct address_prefix {
	__u32 prefix_bits;
	__u8 address[16];
};

/* Key of `group_services`, whose value is the index of the service that has these ports of these
 * addresses. A group holds what shorter prefixes offer, too: nobody looks twice. */
struct port_prefix {
	__u32 prefix_bits;      /* 48 bits before the port, then bits of the port */
	__be32 group;
	__u8 protocol;          /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
	__be16 port;
};

/* Key of `wildcards`: a wildcard service as it is configured. No packet needs it, adoption does: the
 * tries hold what came of all of them. */
struct wildcard_key {
	__u8 address[16];
	__be16 port_first;
	__be16 port_last;
	__u8 address_bits;      /* 0…128 */
	__u8 protocol;
	__u8 pad[2];
};

/* How a packet finds its slot, and where the slots are. */
struct slot_scheme {
	__u64 hash_seed;
	__u32 ring_id;          /* index in the ring class's outer map */
	__u32 ring_size;        /* slots, a prime; 0: there is no ring */
	__u8 ring_class;        /* enum ring_class */
	__u8 hash_input;        /* enum hash_input */
	__u8 source_prefix_ipv4; /* bits of the client address that HASH_SOURCE_IP takes, 0…32 */
	__u8 source_prefix_ipv6; /* 0…128 */
	__u8 pad[4];
};

/* What a packet of a service is measured against. Two versions of each service stand in
 * `service_versions` (index × 2 + version); `service_active` says which one counts, so a change is
 * one aligned store. The version that counts is never written. */
struct service_version {
	struct slot_scheme scheme;
	__u32 flow_idle_ms;
	__u8 tracking;          /* enum tracking */
	__u8 flags;             /* enum service_flags */
	__u16 mss_max;          /* largest segment that SYNs may ask for; 0: no limit */
	__u64 changing_until_ns; /* CLOCK_MONOTONIC; from then on no slot is changing */
	struct slot_scheme predecessor; /* its ring has the untracked owner of each slot that is changing */
	__u64 remembered_since_ns; /* CLOCK_MONOTONIC; entries of `flows` from before count for nothing */
	__u32 turns;            /* slots that hold turns, or each backend once, from the first on */
	__u32 weight_total;     /* of all destination.pick_weight of the service */
	__u32 flows_at;         /* element of `service_flows`: services with the same backends share one */
	__u16 load_factor_percent; /* what nobody is to have more of, of a fair share */
	__u8 pick;              /* enum pick */
	__u8 pad;
	__u64 affinity_id;      /* of the service, its pools and way: others' affinities are not taken for its own */
	__u32 affinity_ms;      /* clients keep their backend until they have sent nothing for so long; 0: they do not */
	__u32 regions;          /* element of `region_tables`, + 1; 0: all clients are the service's own */
	__u64 regions_until_ns; /* CLOCK_MONOTONIC; from then on it does not count who was where before */
	__u32 regions_before;   /* as `regions`: where clients were when a window opened */
	__u32 asked;            /* + 1: index of the service whose region's this one is, or its own if it has regions; 0: neither */
	__u8 pad2[8];           /* to 128 bytes: two cache lines */
};

/* What a CPU knows of the picks of one service. Element of `pick_states`. */
struct pick_state {
	__u64 random;           /* state of the generator of draws; 0: not begun */
	__u32 turn;             /* whose is next: a slot */
	__u8 pad[4];
};

/* The way to a destination. The first twelve bytes are those of the Ethernet header. */
struct next_hop {
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 mtu;              /* largest IP packet that the interface carries; 0: not known, no limit */
	__u16 vlan;             /* frames leave with this tag alone; enum next_hop_vlan: with the tags they came with, or none */
	__u32 ifindex;
	__u32 flags;            /* enum next_hop_flags */
};

/* Where packets of one backend go; element `id` of `destinations`. The idle next hop is written
 * first, then next_hop_active in one aligned store, so no packet sees half of each. */
struct destination {
	__u8 address[16];
	__u8 tunnel_source[16]; /* outer source address, of the same family as `address` */
	__u64 identity;         /* xxHash64 of what the id names, for adoption */
	__u32 generation;       /* +1 whenever the id is given to somebody else */
	__u32 flags;            /* enum destination_flags */
	__u32 forwarding;       /* enum forwarding */
	__u32 next_hop_active;  /* 0 or 1 */
	struct next_hop next_hops[2];
	__be32 tunnel_source_mask; /* bits of its last word that a flow's hash sets; 0: none */
	__be16 gue_port;        /* of the outer UDP header */
	__be16 port;            /* nat: of the backend; 0: the port that a packet came for */
	__u16 pick_weight;      /* what its flows are compared by; 0: 1 */
	__u8 gue_variant;       /* enum gue_variant */
	__u8 pad[13];           /* to 128 bytes: two cache lines */
};

/* Key of `link_addresses`: a destination that frames for this host have when they come by this
 * interface; or the interface itself, which means that it has no others. */
struct link_address {
	__u32 ifindex;
	__u8 mac[6];
	__u8 is_interface;      /* 1, with zeros before it */
	__u8 pad;
};

/* Key of `virtual_addresses`: an address alone. */
struct address_key {
	__u8 address[16];
};

/* What ICMP errors said of the way to a destination. The supervisor writes the id, and packets the rest. */
struct tunnel_end {
	__u64 mtu_ns;           /* CLOCK_MONOTONIC of the last one that told an MTU; 0: none did */
	__u64 unreachable_ns;   /* of the last other one; 0: there was none */
	__u32 destination;      /* id of one that has this tunnel */
	__u32 mtu;
	__u32 unreachable;      /* type * 256 + code */
	__u8 pad[4];
};

/* Key of `flows` and `nat_flows`: where it goes, which is a key of `services`, and where it comes from. */
struct flow_key {
	struct service_key service;
	__u8 source[16];
	__be16 source_port;
	__u8 pad[2];
};

struct flow_entry {
	__u64 last_seen_ns;     /* CLOCK_MONOTONIC; touched at most once a second */
	__u32 generation;       /* of the destination when it was remembered */
	__u16 destination;      /* id */
	__u16 other;            /* id of who may have it instead: the slot's owner when another balancer's flow
				 * was taken for one of the destination's; 0: nobody. And enum flow_other */
};

/* Key of `affinities`, whose values are flow entries: a client of a service. */
struct affinity_key {
	__u64 affinity_id;      /* service_version.affinity_id */
	__u8 client[16];        /* without the bits that do not count */
};

/* Bits of nat_flow.flags: what of TCP was seen in this direction, as in its header; whether the
 * backend has ever answered or the client sent more than SYNs, and that this is the backend's direction. */
enum nat_flags { NAT_FIN = 1, NAT_RST = 4, NAT_ANSWERED = 64, NAT_REPLY = 128 };

/* A translated flow stands in `nat_flows` under two keys, both as packets arrive here: the one under which its client
 * sends and the one under which its backend answers. Each entry has the key of the other, and that is what the packet
 * is made of: it goes on from where the other direction arrives, to where the other direction comes from. */
struct nat_flow {
	__u64 last_seen_ns;     /* of this direction: CLOCK_MONOTONIC, touched at most once a second */
	struct flow_key other;
	__u32 destination;      /* id */
	__u32 generation;       /* of the destination when the flow began */
	__u32 service;          /* index */
	__u32 client_ifindex;   /* of replies: the interface by which the client's packets came, and what frames
				 * by it to the client begin with; the way back ("auto last hop") */
	__u8 client_macs[12];
	__u8 flags;             /* enum nat_flags */
	__u8 client_tag_bytes;  /* 0, 4 or 8 of VLAN tags, in these frames */
	__u8 pad[2];
	__u8 client_tags[8];
};

/* Index of `nat_sources`: where the addresses of each family begin. */
enum nat_sources_at { NAT_SOURCES_IPV4 = 0, NAT_SOURCES_IPV6 = 16, NAT_SOURCES_MAX = 32 };

/* What became of packets that had to begin a translated flow. Index of `nat_counts`. */
enum nat_outcome {
	NAT_CLAIMED = 0,        /* a flow began */
	NAT_PORT_TRANSLATED,    /* of those, in nat: the client's own port was another flow's */
	NAT_TAKEN_OVER,         /* a port was free again, but its flow had not been swept yet */
	NAT_OUTCOMES,           /* how many there are; not an outcome */
};

/* Key of `fragments`: what the fragments of one datagram have in common (RFC 791, 3.2; RFC 8200,
 * 4.5, where the protocol is only told in the first). */
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__be32 identification;  /* of IPv4: its 16 bits, then zeros */
	__u8 protocol;          /* of IPv4; 0 for IPv6 */
	__u8 pad[3];
};

/* What the first fragment had, and the others lack. */
struct fragment_entry {
	__u64 remembered_ns;    /* CLOCK_MONOTONIC */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;          /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad[3];
};

/* Key of `policies`, a longest-prefix-match trie (BPF_MAP_TYPE_LPM_TRIE). */
struct policy_key {
	__u32 prefix_bits;      /* 32 bits of the service index, then bits of the mapped address */
	__be32 service;
	__u8 address[16];
};

/* Key of `probe_paths` (probe.bpf.c): where a health probe comes from. */
struct probe_key {
	__u8 address[16];
	__be16 port;
	__u8 pad[2];
};

/* Whom it is for. */
struct probe_path {
	__u32 destination;      /* id */
	__u32 generation;       /* of the destination */
	__u32 flow_hash;        /* stands in for that of a flow, where outer headers vary by it */
};

/* The only element of `settings`. Each field is written by one aligned store. */
struct settings {
	__u64 abi_fingerprint;  /* stays here: it says how to read the rest */
	__u64 heartbeat_ns;     /* CLOCK_MONOTONIC of the supervisor's last sign of life; 0: never */
	__u64 orphan_after_ns;
	__u64 orphan_action;    /* enum orphan_action */
	__u64 icmp_interval_ns; /* between two ICMP errors of one CPU, on average; 0: no limit */
	__u64 nat_ports;        /* in one word, so that it changes at once: from the lowest bits, 16 of the
				 * first port, 16 of how many, 8 of how many `nat_sources` of IPv4, 8 of IPv6 */
	__u64 nat_syn_ns;       /* how long a flow stays without a packet: before both have answered, */
	__u64 nat_established_ns; /* after that, */
	__u64 nat_fin_ns;       /* after a FIN, */
	__u64 nat_rst_ns;       /* after an RST, */
	__u64 nat_udp_ns;       /* and of UDP */
};

/* Kinds of flows that are remembered with TRACKING_MINIMAL. */
enum remember_kind {
	REMEMBER_TCP_OPENED = 0,
	REMEMBER_TCP_OTHER,     /* connections that were there before */
	REMEMBER_UDP,
	REMEMBER_KINDS,
};

/* How many flows of one kind may be remembered, of all services on all CPUs. Element `kind` of
 * `remember_pace`. Each field is written by one aligned store; the program adds to next_ns. */
struct remember_pace {
	__u64 next_ns;          /* when the next one is due if none is taken in advance, CLOCK_MONOTONIC */
	__u64 interval_ns;      /* between two, on average; 0: no limit */
	__u64 burst_ns;         /* so much may be taken in advance, the latter half by services that have not had their own share */
	__u64 own_interval_ns;  /* between two of one service out of that half, on average */
};

/* What the decapsulation program of the backends (decap.bpf.c) did. Index of `decap_counts`.
 * Nothing is dropped: what it does not know is the kernel's to judge. */
enum decap_verdict {
	DECAP_PASS_NOT_TUNNEL = 0, /* no tunnel packet, or one in a form that pointsman does not send */
	DECAP_PASS_MALFORMED,   /* a tunnel packet whose headers are cut short or contradict themselves */
	DECAP_PASS_NOT_OURS,    /* the inner destination is none of the virtual addresses */
	DECAP_PASS_SOURCE,      /* the outer source is none of the balancers */
	DECAP_PASS_NOT_LOCAL,   /* the outer destination is none of this host's addresses */
	DECAP_PASS_STRIPPED,    /* without its outer header; and so in the next three, where alternates are named: */
	DECAP_PASS_OWNED,       /* a socket of this host's is its connection's, or takes it as a new one */
	DECAP_PASS_LAST,        /* nobody is left to ask */
	DECAP_PASS_NO_WAY,      /* no socket here, and no way to the next alternate */
	DECAP_PASS_ALTERNATE,   /* no socket here: to the kernel, which forwards it to the next alternate */
	DECAP_TX_ALTERNATE,     /* no socket here: on its way to the next alternate */
	DECAP_VERDICTS,         /* how many there are; not an outcome */
};

/* Per CPU. Bytes are those of the frame as received. */
struct verdict_count {
	__u64 packets;
	__u64 bytes;
};

/* Per CPU; one for each service and one for each destination. */
struct traffic_count {
	__u64 packets;
	__u64 bytes;
	__u64 flows;            /* new ones remembered (tracking full), else TCP SYNs and 0 for UDP */
};

_Static_assert(sizeof(struct service_key) == 20, "services and flows are keyed by it");
_Static_assert(sizeof(struct address_prefix) == 20, "32 + 128 bits");
_Static_assert(sizeof(struct port_prefix) == 12, "32 + 32 + 16 + 16 bits");
_Static_assert(sizeof(struct wildcard_key) == 24, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct link_address) == 12, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct address_key) == 16, "an address and nothing else");
_Static_assert(sizeof(struct tunnel_end) == 32, "four words");
_Static_assert(sizeof(struct flow_key) == 40, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct affinity_key) == 24, "three double words");
_Static_assert(sizeof(struct flow_entry) == 16, "one entry, one quarter of a cache line");
_Static_assert(sizeof(struct nat_flow) == 88, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct fragment_key) == 40, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct fragment_entry) == 16, "two words");
_Static_assert(sizeof(struct slot_scheme) == 24, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct service_version) == 128, "two cache lines");
_Static_assert(sizeof(struct pick_state) == 16, "per-CPU values are multiples of 8");
_Static_assert(sizeof(struct next_hop) == 24, "two of them in a destination");
_Static_assert(sizeof(struct destination) == 128, "two cache lines");
_Static_assert(sizeof(struct policy_key) == 24, "32 + 32 + 128 bits");
_Static_assert(sizeof(struct probe_key) == 20, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct probe_path) == 12, "three words");
_Static_assert(sizeof(struct settings) == 88, "eleven aligned words");
_Static_assert(sizeof(struct remember_pace) == 32, "four aligned words");
_Static_assert(sizeof(struct verdict_count) == 16, "per-CPU values are multiples of 8");
_Static_assert(sizeof(struct traffic_count) == 24, "per-CPU values are multiples of 8");
