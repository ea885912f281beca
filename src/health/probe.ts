// One health probe of whatever kind, answered by an Outcome within the timeout. Where it goes through
// the plane to several virtual addresses, it is one of each. Knows which kind does what (probes/);
// must never know schedules, thresholds or other probes.

import type { Env } from "../env.ts";
import { formatEndpoint } from "../model/address.ts";
import type { ProbedHealth } from "../model/health_check.ts";
import type { Outcome } from "./judge.ts";
import { probeAgent } from "./probes/agent.ts";
import type { Attempt } from "./probes/attempt.ts";
import { CANCELLED, createAttempt, verdictOf } from "./probes/attempt.ts";
import { probeDns } from "./probes/dns.ts";
import { probeGrpc } from "./probes/grpc.ts";
import { probeHttp } from "./probes/http.ts";
import { probeHttp2 } from "./probes/http2.ts";
import { probeExec } from "./probes/exec.ts";
import { probeIcmp } from "./probes/icmp.ts";
import { probeMysql } from "./probes/mysql.ts";
import { probePostgres } from "./probes/postgres.ts";
import { ProcessSlots } from "./probes/process.ts";
import { probeRedis } from "./probes/redis.ts";
import { probeSmtp } from "./probes/smtp.ts";
import type { Aim, ConnectThrough, Doors } from "./probes/socket.ts";
import { probeTcp } from "./probes/tcp.ts";
import { probeTls } from "./probes/tls.ts";
import { probeUdp } from "./probes/udp.ts";
import type { Probe, StopSignal } from "./schedule.ts";

export type ProbeEnv = Pick<Env, "clock" | "exec" | "files" | "net" | "random" | "variables">;

/** The probe of the real (or a simulated) network. `allowsExec`: whether commands of health checks may be run. */
export function createProbe(env: ProbeEnv, connectThrough: ConnectThrough, allowsExec = false): Probe {
  const { clock, exec, files, net, random, variables } = env;
  const doors: Doors = {
    clock, exec, files, net, random, variables, connectThrough, allowsExec, processes: new ProcessSlots(),
  };
  const probe = (aim: Aim, signal: StopSignal): Promise<Outcome> => probeOnce(doors, aim, signal);
  return (target, signal) => {
    const { name, address, port, health, through } = target;
    if (health.type === "none") return Promise.resolve({ ok: true, conclusive: true, reason: "no health check", durationMs: 0 });
    if (through.length === 0) return probe({ name, address, port, health, place: null }, signal);
    const aims = through.map((place) =>
      ({ name, address: place.address, port: place.port, health, place }));
    return Promise.all(aims.map((aim) => probe(aim, signal))).then((outcomes) => joined(aims, outcomes));
  };
}

/**
 * Everybody has to have answered: the first failure decides, then the first without an answer, then the
 * first that asks for a drain.
 */
function joined(aims: readonly Aim[], outcomes: readonly Outcome[]): Outcome {
  const durationMs = Math.max(...outcomes.map((each) => each.durationMs));
  const failed = outcomes.findIndex(({ ok, conclusive }) => conclusive && !ok);
  const unsaid = outcomes.findIndex(({ conclusive }) => !conclusive);
  const drains = outcomes.findIndex((each) => each.drains === true);
  const at = Math.max(0, [failed, unsaid, drains].find((index) => index !== -1) ?? 0);
  const { address, port } = aims[at]!;
  const others = failed === -1 && unsaid === -1 && aims.length > 1
    ? `, and ${aims.length - 1} more` : "";
  const outcome = outcomes[at]!;
  const reason = `${formatEndpoint(address, port)}${others}: ${outcome.reason}`;
  const [certificate] = outcomes.flatMap((each) => each.certificate ?? []).sort((a, b) => a.endsAtMs - b.endsAtMs);
  return { ...outcome, reason, durationMs, ...(certificate === undefined ? {} : { certificate }) };
}

function probeOnce(doors: Doors, aim: Aim, signal: StopSignal): Promise<Outcome> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve({ ...CANCELLED, durationMs: 0 });
      return;
    }
    const attempt = createAttempt(doors, aim.health.timeoutMs, signal, resolve);
    try {
      begin(doors, aim, attempt);
    } catch (error) {
      attempt.end(verdictOf(error)); // some faults are thrown, not emitted
    }
  });
}

function begin(doors: Doors, aim: Aim, attempt: Attempt): void {
  const { health } = aim;
  switch (health.type) {
    case "tcp": return probeTcp(doors, narrowed(aim, health), attempt);
    case "tls": return probeTls(doors, narrowed(aim, health), attempt);
    case "http": return health.version === 2 ? probeHttp2(doors, narrowed(aim, health), attempt)
      : probeHttp(doors, narrowed(aim, health), attempt);
    case "grpc": return probeGrpc(doors, narrowed(aim, health), attempt);
    case "udp": return probeUdp(doors, narrowed(aim, health), attempt);
    case "dns": return probeDns(doors, narrowed(aim, health), attempt);
    case "redis": return probeRedis(doors, narrowed(aim, health), attempt);
    case "postgres": return probePostgres(doors, narrowed(aim, health), attempt);
    case "mysql": return probeMysql(doors, narrowed(aim, health), attempt);
    case "icmp": return probeIcmp(doors, narrowed(aim, health), attempt);
    case "exec": return probeExec(doors, narrowed(aim, health), attempt);
    case "agent": return probeAgent(doors, narrowed(aim, health), attempt);
    case "smtp": return probeSmtp(doors, narrowed(aim, health), attempt);
  }
}

function narrowed<H extends ProbedHealth>(aim: Aim, health: H): Aim<H> {
  return { ...aim, health };
}
