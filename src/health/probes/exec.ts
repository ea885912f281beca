// A probe that runs a command of the operator's: exit status 0 is success, and what it says is the reason. Must
// never run anything unless whoever started this process allowed it.

import type { ExecHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, OwnFault, success } from "./attempt.ts";
import type { Ended } from "./process.ts";
import { firstLine, runProcess } from "./process.ts";
import { readSecret } from "./secret.ts";
import type { Aim, Doors } from "./socket.ts";
import { told, withoutSecrets } from "./words.ts";

/** As shells tell that a command could not be run. */
const NOT_RUN: readonly number[] = [126, 127];

export function probeExec(doors: Doors, aim: Aim<ExecHealth>, attempt: Attempt): void {
  if (!doors.allowsExec) throw new OwnFault("commands of health checks are not allowed: begin with run --exec-probes");
  const { command, args, environment, timeoutMs } = aim.health;
  const secrets: string[] = [];
  const wished = environment.map(({ name, value }) => {
    const text = readSecret(doors, value);
    if (value.from === "file") secrets.push(text);
    return [name, text] as const;
  });
  const slash = aim.name.indexOf("/");
  const variables = {
    ...Object.fromEntries(wished),
    POINTSMAN_POOL: aim.name.slice(0, slash), POINTSMAN_BACKEND: aim.name.slice(slash + 1),
    POINTSMAN_ADDRESS: aim.address.text, POINTSMAN_PORT: aim.port === 0 ? "" : String(aim.port),
    POINTSMAN_TIMEOUT_MS: String(timeoutMs),
  };
  runProcess(doors, attempt, { command, args, variables, stage: `running ${command}` }, (ended) => judge(ended, secrets));
}

function judge({ status, stdout, stderr }: Ended, secrets: readonly string[]): Verdict {
  const line = firstLine(stdout) ?? firstLine(stderr);
  const words = line === null ? null : told(withoutSecrets(line, secrets));
  if (status === 0) return success(words ?? "exit status 0");
  const said = words === null ? "" : `: ${words}`;
  if (NOT_RUN.includes(status)) return { ok: false, conclusive: false, reason: `the command could not be run${said}` };
  return failure(status > 128 ? `ended by signal ${status - 128}${said}` : `exit status ${status}${said}`);
}
