/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * How a tunnel packet names the other backends that its flow may be with ("second chance", after Beamer,
 * NSDI 2018, and GLB). In GUE, as private data behind the header's four bytes: a kind, how many addresses,
 * the index of the next one, a zero; then the addresses, in the family of the outer IP header, in the order
 * in which they are to be asked. In GRE, as the key: one IPv4 address, or 0 when nobody is left. Knows the
 * wire; knows no map. src/model/alternates.ts is its twin.
 */
#pragma once

enum { ALTERNATES_KIND = 0x51, ALTERNATES_MAX = 4, ALTERNATES_HEADER_BYTES = 4 };
/* A balancer names these of a slot: its owner, and its untracked owner. */
enum { NAMED_MAX = 2 };
enum { GRE_KEY = 0x2000, GRE_KEY_BYTES = 4 };
/* Where in the header's four bytes. */
enum { ALTERNATES_KIND_AT = 0, ALTERNATES_COUNT_AT, ALTERNATES_NEXT_AT, ALTERNATES_ZERO_AT };
