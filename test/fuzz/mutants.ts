// Programs that are wrong on purpose: what the fuzzer has to find, so that a run that finds nothing
// means something. Knows one line of the sources for each, and what has to be said about it.

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../support/kernel.ts";
import type { Target } from "./targets.ts";

export interface Mutant {
  readonly name: string;
  readonly target: Target["name"];
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly complaint: RegExp;
  /** Golden packets to begin with, where it takes too long to come near from all of them. */
  readonly near?: RegExp;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: "a bound that ends too late, which no golden packet shows", target: "pointsman",
    file: "packet.h", from: "bytes + TCP_HEADER_BYTES > (__u8 *)end",
    to: "bytes + UDP_HEADER_BYTES > (__u8 *)end", complaint: /heap-buffer-overflow/,
    near: /^v[46] l2 tcp$/,
  },
  {
    name: "a verdict of ours for an address of somebody else", target: "pointsman", file: "decide.h",
    from: "if (!is_virtual_address(packet->flow.service.address))\n\t\treturn PASS_NOT_OURS;",
    to: "", complaint: /not for a virtual address/,
  },
  {
    name: "a checksum without its carry", target: "pointsman", file: "checksum.h",
    from: "total = (total & 0xffff) + (total >> 16);", to: "",
    complaint: /checksum/,
  },
  {
    name: "two verdicts for one frame", target: "pointsman", file: "pointsman.bpf.c",
    from: "return finish(", to: "count_verdict(verdict, 0);\n\treturn finish(",
    complaint: /verdicts for one frame/,
  },
  {
    name: "a frame that is written to and then passed", target: "pointsman", file: "pointsman.bpf.c",
    from: "return finish(",
    to: "if (verdict == PASS_ICMP)\n\t\tswap_macs((void *)(long)ctx->data);\n\treturn finish(",
    complaint: /the frame is not what it was/,
  },
  {
    name: "a pick that writes into what another CPU remembers of its own", target: "pointsman", file: "pick.h",
    from: "scan->start = slot_of(draw, turns);", to: "scan[1].start = slot_of(draw, turns);",
    complaint: /heap-buffer-overflow/,
  },
  {
    name: "a bound of the inner packet", target: "decap", file: "decap.bpf.c",
    from: "if ((void *)(ip + 1) > end || ip->version != 6 ||\n\t    sizeof(*ip) +",
    to: "if ((void *)ip + 4 > end || ip->version != 6 ||\n\t    sizeof(*ip) +",
    complaint: /heap-buffer-overflow/,
  },
  {
    name: "a stranger's word about who has a flow", target: "decap", file: "decap.bpf.c",
    from: " && is_within(&decap_sources, tunnel.source))", to: ")",
    complaint: /sent on although it is no balancer's/,
  },
  {
    name: "an outer checksum that does not follow its address", target: "decap", file: "second_chance.h",
    from: "ip->check = replace_in_sum(sum, words[9], new[1]);", to: "ip->check = sum;",
    complaint: /checksum is off by another value/,
  },
];

/** Copies bpf/ into a directory and breaks it there. */
export function breakSources(mutant: Mutant, directory: string): void {
  cpSync(join(ROOT, "bpf"), directory, { recursive: true });
  const path = join(directory, mutant.file);
  const text = readFileSync(path, "utf8");
  if (!text.includes(mutant.from))
    throw new Error(`mutant "${mutant.name}": ${mutant.file} no longer says "${mutant.from}"`);
  writeFileSync(path, text.replaceAll(mutant.from, mutant.to));
}
