// A probe by one ICMP echo request, which the system's `ping` sends: Node has no such sockets, and the right to
// open them is one that ping has on every system, by its file or by net.ipv4.ping_group_range, where we may not.
// Knows the words of ping; must never know why anybody would trust a host because it echoes.

import type { IcmpHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import type { Ended } from "./process.ts";
import { runProcess } from "./process.ts";
import type { Aim, Doors } from "./socket.ts";
import { sourceOf } from "./socket.ts";
import { told } from "./words.ts";

const STATUS_NOT_RUN = 127;
const STATUS_NO_ANSWER = 1;

export function probeIcmp(doors: Doors, aim: Aim<IcmpHealth>, attempt: Attempt): void {
  const { localAddress } = sourceOf(aim);
  const args = [
    `-${aim.address.family}`, "-n", "-c", "1", "-W", String(Math.ceil(aim.health.timeoutMs / 1000)),
    ...(localAddress === undefined ? [] : ["-I", localAddress]), aim.address.text,
  ];
  runProcess(doors, attempt, { command: "ping", args, variables: {}, stage: "waiting for the echo" }, judge);
}

function judge({ status, stdout, stderr }: Ended): Verdict {
  if (status === 0) {
    const time = /\btime[=<]([\d.]+ ms)/.exec(stdout)?.[1];
    return success(time === undefined ? "echo" : `echo after ${time}`);
  }
  if (status === STATUS_NOT_RUN) return ours("there is no ping on this host: install iputils-ping");
  // "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable": somebody on the way has answered instead.
  const refusal = /^From (\S+?):? icmp_seq=\d+ (.*)$/m.exec(stdout);
  if (refusal !== null) return failure(`${told(refusal[1] ?? "")} answered ${told(refusal[2] ?? "")}`);
  if (status === STATUS_NO_ANSWER) return failure("no echo");
  const [last = ""] = stderr.trim().split("\n").slice(-1);
  const said = told(last.replace(/^ping6?: /, ""));
  return /unreachable|No route to host/i.test(said) ? failure(said) : ours(`ping could not ask: ${said}`);
}

function ours(reason: string): Verdict {
  return { ok: false, conclusive: false, reason };
}
