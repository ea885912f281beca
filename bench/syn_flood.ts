// Sends a flood of SYNs from invented addresses out of an interface of the namespace it runs in, at a rate
// as near as it gets to the one asked for, for so long, and prints how many it sent. A program of its own,
// since a test run sends from the namespace of the thread that asks for it.
//
//   syn_flood OBJECT INTERFACE SOURCE-MAC DESTINATION-MAC ADDRESS PORT PER-SECOND SECONDS

import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { ROOT } from "../scripts/lab_services.ts";
import { loadNative } from "../src/dataplane/xdp/native.ts";
import { parseAddress } from "../src/model/address.ts";

const LIVE_FRAMES = 2; // BPF_F_TEST_XDP_LIVE_FRAMES of linux/bpf.h
const FRAME_BYTES = 64;
/** A test run waits for grace periods of the kernel's, tens of milliseconds, however little it sends. */
const AT_ONCE_MAX = 32_768;
const BATCH = 64;

function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(":", ""), "hex");
}

/** Ethernet, IPv4 and a SYN; source address, source port and the sum of IP are the program's. */
function synFrame(source: string, destination: string, address: string, port: number): Buffer {
  const to = parseAddress(address);
  if (to === null || to.family !== 4) throw new RangeError(`${address} is no IPv4 address`);
  const frame = Buffer.alloc(FRAME_BYTES);
  macBytes(destination).copy(frame, 0);
  macBytes(source).copy(frame, 6);
  frame.writeUInt16BE(0x0800, 12);
  frame.set([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6], 14);
  frame.set(to.bytes.subarray(12), 30);
  frame.writeUInt16BE(port, 36);
  frame[46] = 5 << 4;
  frame[47] = 2; // SYN
  frame.writeUInt16BE(64_240, 48);
  return frame;
}

/** struct xdp_md of linux/bpf.h: where the frame lies, and the interface that it seems to have come by. */
function contextOf(ifindex: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(0, FRAME_BYTES, 0, ifindex, 0, 0).buffer);
}

const [, , object = "", link = "", source = "", destination = "", address = "", port = "", rate = "", seconds = ""] = process.argv;
const native = loadNative(join(ROOT, "build/pointsman.node"));
const flood = native.BpfObject.open(object);
flood.load();
const frame = synFrame(source, destination, address, Number(port));
flood.map("flood_plans").update(new Uint8Array(4), frame, 0);
const context = contextOf(native.interfaceIndex(link));
const beginMs = performance.now();
const lastMs = Number(seconds) * 1000;
let sent = 0;
process.stdout.write("flooding\n");
for (let passedMs = 0; passedMs < lastMs; passedMs = performance.now() - beginMs) {
  const due = Math.min(AT_ONCE_MAX, Math.floor((passedMs * Number(rate)) / 1000) - sent);
  if (due > 0) {
    flood.testRun("send_syn", frame, { repeat: due, flags: LIVE_FRAMES, context, outputSizeMax: 0, batchSize: BATCH });
    sent += due;
  }
  await sleep(1);
}
process.stdout.write(`${JSON.stringify({ sent, seconds: (performance.now() - beginMs) / 1000 })}\n`);
flood.close();
