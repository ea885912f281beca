/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The shared facts of QUIC connection IDs: a part of abi.h, by its rules.
 */
#pragma once

#include <linux/types.h>

/* How a QUIC connection ID hides the server ID in it (draft-ietf-quic-load-balancers-21, 5.4). */
enum quic_mode { QUIC_PLAINTEXT = 0, QUIC_SINGLE_PASS, QUIC_FOUR_PASS };

/* What a connection ID said, of packets for services with SERVICE_QUIC_LB. Index of `quic_counts`. */
enum quic_outcome {
	QUIC_ROUTED = 0,        /* it names a backend that is alive */
	QUIC_NO_ID,             /* too short to be QUIC, or another length than its config asks for */
	QUIC_NO_CONFIG,         /* no config has its number */
	QUIC_NO_SERVER,         /* nobody has the server ID */
	QUIC_SERVER_DOWN,       /* the backend is not alive */
	QUIC_OUTCOMES,          /* how many there are; not an outcome */
};

/* Key of `quic_configs`. */
struct quic_config_key {
	__u32 service;          /* index */
	__u32 config;           /* 0…6 */
};

/* How to read the server ID. Masks have the first byte lowest; those of the halves clear what is the
 * other half's, where the bytes are odd in number. */
struct quic_config {
	__u64 server_mask[2];   /* the bytes of the server ID, of the first sixteen */
	__u64 left_mask[2];     /* ten bytes: the first half */
	__u64 right_mask[2];    /* ten bytes from right_offset on: the other half */
	__u8 mode;              /* enum quic_mode */
	__u8 server_id_bytes;
	__u8 plaintext_bytes;   /* of server ID and nonce */
	__u8 right_offset;      /* plaintext_bytes / 2 */
	__u8 length_encoded;    /* 1: the first byte says the length */
	__u8 pad[3];
	__u32 schedule[44];     /* of AES: the inverse one for a single pass, else the forward one */
};

/* Key of `quic_servers`. */
struct quic_server_key {
	__u8 server_id[15];     /* zeros behind it */
	__u8 server_id_bytes;
	__u32 service;          /* index */
};

_Static_assert(sizeof(struct quic_config_key) == 8, "two words");
_Static_assert(sizeof(struct quic_config) == 232, "masks, bytes and 44 words");
_Static_assert(sizeof(struct quic_server_key) == 20, "made of two double words and a word");
