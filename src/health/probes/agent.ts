// One question to an agent beside a backend: a connection, perhaps a line, and the line that comes back. Must never
// know what the words mean.

import type { AgentHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { success } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { openStream } from "./stream.ts";
import { told } from "./words.ts";

const LINE_MAX_BYTES = 1024;
const UNSAID = "the agent cannot be heard: ";

export function probeAgent(doors: Doors, aim: Aim<AgentHealth>, attempt: Attempt): void {
  openStream(doors, aim, null, withoutBlame(attempt), (stream) => {
    attempt.stage = "waiting for the agent's line";
    let heard = Buffer.alloc(0);
    const end = (): void => {
      const [line = ""] = heard.toString("latin1").split(/[\r\n]/);
      if (line.trim() === "") attempt.end(unsaid("it said nothing"));
      else attempt.end({ ...success(told(line)), said: line });
    };
    stream.on("data", (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk]);
      if (/[^\r\n][\r\n]/.test(heard.toString("latin1")) || heard.length > LINE_MAX_BYTES) end();
    });
    // As HAProxy takes it, the end of the connection ends a line as well.
    stream.once("end", end);
    stream.once("close", end);
    if (aim.health.send !== null) stream.write(aim.health.send.bytes);
  });
}

/** What goes wrong is no word of the agent's, and probes find out whether the backend can be reached. */
function withoutBlame(attempt: Attempt): Attempt {
  const end = attempt.end.bind(attempt);
  attempt.end = (verdict) => { end(verdict.ok ? verdict : unsaid(verdict.reason)); };
  return attempt;
}

function unsaid(reason: string): Verdict {
  return { ok: false, conclusive: false, reason: reason.startsWith(UNSAID) ? reason : `${UNSAID}${reason}` };
}
