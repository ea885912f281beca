// Runs frames through the real XDP program without a network card: an unattached plane, a table, and one
// test run per frame. What became of each is read from the counters that production counts with.

import type { Env } from "../../env.ts";
import type { Config } from "../../model/config.ts";
import { hasPorts } from "../../model/decide.ts";
import type { VerdictName } from "../../model/decide.ts";
import type { ForwardingTable } from "../../model/table.ts";
import { parsePacket } from "../../model/packet.ts";
import { serviceFor, serviceOf } from "../../model/service_lookup.ts";
import type { Counters } from "../dataplane.ts";
import { NO_MAC } from "./image.ts";
import type { Native } from "./native.ts";
import { openUnattachedPlane } from "./open_xdp.ts";
import type { XdpPlane } from "./xdp_plane.ts";

/** Next hop of a backend without a `mac`: locally administered, so nobody's. */
const NEXT_HOP_MAC = "02:00:00:00:00:01";
/** A test run takes no frame without a whole Ethernet header; neither does a network card. */
const ETHERNET_HEADER = 14;
/** Room for what the program may add: the largest outer header is 40 bytes. */
const ROOM = 256;

export interface Replayed {
  readonly verdict: VerdictName;
  readonly action: "PASS" | "TX" | "DROP";
  readonly service: string | null;
  /** "pool/backend". */
  readonly backend: string | null;
  /** As it leaves, or null when it was dropped. */
  readonly frame: Uint8Array | null;
}

export interface Replay {
  run(frame: Uint8Array): Promise<Replayed>;
  close(): Promise<void>;
}

/** Throws what loading a program throws. */
export async function openReplay(native: Native, env: Env, config: Config, table: ForwardingTable): Promise<Replay> {
  let own = NO_MAC;
  const plane = await openUnattachedPlane({ config, env, native, mac: NEXT_HOP_MAC, sourceMac: () => own });
  try {
    await plane.apply(table);
  } catch (error) {
    await plane.close({ detach: true, drainMs: 0 });
    throw error;
  }
  let before = plane.counters();
  return {
    run: async (frame) => {
      if (frame.length < ETHERNET_HEADER) {
        return { verdict: "PASS_NOT_IP", action: "PASS", service: null, backend: null, frame };
      }
      const to = unicastDestination(frame);
      if (to !== null && to !== own) {
        // What a frame was sent to is the address of the interface that it would leave by.
        own = to;
        await plane.apply(table);
      }
      const replayed = runOne(plane, table, frame, before);
      before = replayed.after;
      return replayed.result;
    },
    close: () => plane.close({ detach: true, drainMs: 0 }),
  };
}

/** "aa:bb:cc:dd:ee:ff", or null for a group address (IEEE 802: the lowest bit of the first byte). */
function unicastDestination(frame: Uint8Array): string | null {
  if ((frame[0] ?? 0) & 1) return null;
  return [...frame.subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function runOne(
  plane: XdpPlane,
  table: ForwardingTable,
  frame: Uint8Array,
  before: Counters,
): { result: Replayed; after: Counters } {
  // The capture is run as if its supervisor lived.
  plane.heartbeat();
  const { output } = plane.testRun(frame, {
    repeat: 1,
    flags: 0,
    context: null,
    outputSizeMax: frame.length + ROOM,
    batchSize: 0,
  });
  const after = plane.counters();
  const counted = Object.entries(after.verdicts).find(
    ([name, { packets }]) => packets !== (before.verdicts[name as VerdictName]?.packets ?? 0),
  );
  if (counted === undefined) throw new Error("the program counted no verdict");
  const verdict = counted[0] as VerdictName;
  const backend = [...after.backends].find(
    ([name, { packets }]) => packets !== (before.backends.get(name)?.packets ?? 0),
  );
  const action = verdict.slice(0, verdict.indexOf("_")) as Replayed["action"];
  return {
    after,
    result: {
      verdict,
      action,
      service: serviceOfFrame(table, frame),
      backend: backend?.[0] ?? null,
      frame: action === "DROP" ? null : output,
    },
  };
}

/** The service a frame is for, also when it was dropped before it was counted for one. */
function serviceOfFrame(table: ForwardingTable, frame: Uint8Array): string | null {
  const packet = parsePacket(frame);
  if (typeof packet === "string" || !hasPorts(packet.kind)) return null;
  const asked = serviceOf(table, packet.destination, packet.destinationPort, packet.protocol);
  return asked === null ? null : serviceFor(table, asked, packet.source).name;
}
