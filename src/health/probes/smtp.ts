// A probe that greets an SMTP server and takes its leave (RFC 5321: 220, EHLO, 250, QUIT, 221). Knows replies
// of one and of several lines; must never send mail.

import type { SmtpHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { converse, openStream } from "./stream.ts";
import { told } from "./words.ts";

const REPLY = /^(\d{3})([ -]?)(.*)$/;

export function probeSmtp(doors: Doors, aim: Aim<SmtpHealth>, attempt: Attempt): void {
  const { tls, helloName } = aim.health;
  const wish = tls === null ? null : { ...tls, host: null, protocols: [] };
  openStream(doors, aim, wish, attempt, (stream) => {
    const turns = [
      { stage: "waiting for the greeting", code: "220", next: `EHLO ${helloName}\r\n` },
      { stage: "waiting for the answer to EHLO", code: "250", next: "QUIT\r\n" },
      { stage: "waiting for the answer to QUIT", code: "221", next: null },
    ] as const;
    let at = 0;
    let greeting = "";
    attempt.stage = turns[at]!.stage;
    converse(stream, attempt, (heard) => {
      const turn = turns[at];
      const end = heard.indexOf("\n");
      if (turn === undefined) return 0;
      const line = heard.subarray(0, end === -1 ? undefined : end).toString("latin1").trimEnd();
      if (end === -1 && couldBeReply(line)) return 0;
      const [, code = "", more = "", words = ""] = REPLY.exec(line) ?? [];
      if (code !== turn.code) {
        attempt.end(failure(code === "" ? `not an SMTP server: ${told(line)}` : `the server answered ${told(line)}`));
      } else if (more !== "-") {
        if (at === 0) greeting = words;
        at += 1;
        if (turn.next === null) attempt.end(success(`220 ${told(greeting)}`));
        else {
          attempt.stage = turns[at]?.stage ?? attempt.stage;
          stream.write(turn.next);
        }
      }
      return end === -1 ? heard.length : end + 1;
    });
  });
}

const LINE_MAX = 2048;

/** Of a line that has no end yet. */
function couldBeReply(line: string): boolean {
  return /^(\d{0,3}$|\d{3}[ -])/.test(line) && line.length <= LINE_MAX;
}
