// `replay`: a capture through the real XDP program. One line, or one element, per packet; the packets that
// were not dropped go to the output file in input order.

import { openReplay } from "../dataplane/xdp/replay.ts";
import { loadAddon } from "../dataplane/probe.ts";
import { compile } from "../model/compile.ts";
import { EMPTY_LEDGER } from "../model/table.ts";
import type { CapturedPacket } from "./capture.ts";
import { readCapture, writeCapture } from "./capture.ts";
import { readGivenFile } from "./changes.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { offlineIntent } from "./offline.ts";
import { table } from "./table.ts";

export interface ReplayOptions {
  readonly config: string;
  readonly in: string;
  readonly out?: string;
  readonly hashSeed?: string;
  readonly output: "table" | "json";
}

export async function replayVerb(io: Io, options: ReplayOptions): Promise<number> {
  const intent = await offlineIntent(io, options.config, options.hashSeed);
  const packets = readCapture(options.in, readGivenFile(io, options.in));
  const cut = packets.filter((packet) => packet.bytes.length < packet.length).length;
  if (cut > 0) io.err(`note: ${cut} packet(s) were cut short by the capture; the program sees them as malformed\n`);
  const forwarding = compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
  const replay = await openReplay(loadAddon(io.env), io.env, intent.config, forwarding);
  const rows: { index: number; verdict: string; action: string; service: string | null; backend: string | null }[] = [];
  const left: CapturedPacket[] = [];
  try {
    for (const [index, packet] of packets.entries()) {
      const { frame, ...what } = await replay.run(packet.bytes);
      const { verdict, action, service, backend } = what;
      rows.push({ index, verdict, action, service, backend });
      if (frame !== null) left.push({ timeNs: packet.timeNs, bytes: frame, length: frame.length });
    }
  } finally {
    await replay.close();
  }
  if (options.out !== undefined) io.env.files.writeAtomic(options.out, writeCapture(left), 0o644);
  io.out(options.output === "json" ? `${JSON.stringify(rows)}\n`
    : table(["index", "verdict", "action", "service", "backend"],
      rows.map((row) => [row.index, row.verdict, row.action, row.service ?? "", row.backend ?? ""])));
  return EXIT.done;
}
