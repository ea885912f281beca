// Requests at a fixed rate, whatever became of those before (an open loop): times between two are exponential, of a
// seed, so that everybody is asked at the same moments. A request counts from when it was due, not from when
// this process came to it. A connection each; the answer is the name of who served it. Prints one line of JSON:
// pairs of name ("" for none) and milliseconds.
//
//   open_loop_client ADDRESS PORT RATE SECONDS SEED

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Draws } from "../test/support/random.ts";

export type Answered = readonly [name: string, tookMs: number];

const [, , address = "", port = "0", rate = "0", seconds = "0", seed = "0"] = process.argv;
const PATIENCE_MS = 10_000;

function request(dueMs: number): Promise<Answered> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect({ host: address, port: Number(port) });
    socket.setTimeout(PATIENCE_MS, () => { socket.destroy(); });
    socket.on("data", (chunk) => { said += chunk.toString(); });
    socket.on("error", () => { /* said by its close */ });
    socket.on("end", () => { resolve([said.trim(), performance.now() - dueMs]); });
    socket.on("close", () => { resolve(["", performance.now() - dueMs]); });
  });
}

const draws = new Draws(Number(seed));
const startMs = performance.now();
const answers: Promise<Answered>[] = [];
for (let dueMs = startMs; ;) {
  dueMs += -Math.log((draws.word() + 1) / 2 ** 32) * 1000 / Number(rate);
  if (dueMs - startMs > Number(seconds) * 1000) break;
  const aheadMs = dueMs - performance.now();
  if (aheadMs > 0) await sleep(aheadMs);
  answers.push(request(dueMs));
}
process.stdout.write(`${JSON.stringify(await Promise.all(answers))}\n`);
