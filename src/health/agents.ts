// Agents beside backends: a second schedule asks them, and what they say is laid over what probes have found. A
// Checker like the one inside it. Knows both; must never know what becomes of a backend.
//
// As with HAProxy, an agent that cannot be reached says nothing, and what it said last holds: whether the backend
// can be reached is for probes to find out.

import type { BackendHealth } from "../model/table.ts";
import type { AgentHealth } from "../model/health_check.ts";
import type { AgentState } from "./agent_answer.ts";
import { hearAgent, isAgentsWord, parseAgentAnswer, silentAgent, withAgent } from "./agent_answer.ts";
import type { Checker, CheckerCounts, CheckerOptions, HealthTransition, Probe, ProbeRecord } from "./checker.ts";
import { createChecker } from "./checker.ts";
import type { HealthStatus } from "./judge.ts";
import type { ProbeTarget } from "./target.ts";

/** One agent, and the backend that it speaks for. */
interface Speaker {
  readonly target: ProbeTarget;
  state: AgentState;
  /** What was known before a start, until the agent has been asked. */
  held: BackendHealth | null;
  /** As it was told last. */
  told: BackendHealth | null;
}

export function createCheckerWithAgents(options: CheckerOptions): Checker {
  return new CheckerWithAgents(options);
}

class CheckerWithAgents implements Checker {
  readonly #options: CheckerOptions;
  readonly #probes: Checker;
  readonly #agents: Checker;
  #speakers = new Map<string, Speaker>();
  #initial: ReadonlyMap<string, BackendHealth>;
  /** The last answer of states(), and what it was made of. */
  #merged: { readonly of: ReadonlyMap<string, BackendHealth>; readonly states: ReadonlyMap<string, BackendHealth> } | null = null;
  #isStopped = false;

  constructor(options: CheckerOptions) {
    this.#options = options;
    this.#initial = new Map(options.initial ?? []);
    const byProbes = [...this.#initial].filter(([, health]) => !isAgentsWord(health));
    this.#probes = createChecker({
      ...options, initial: new Map(byProbes), onTransition: (transition) => { this.#hearProbes(transition); },
    });
    const ask: Probe = async (target, signal) => {
      const outcome = await options.probe(target, signal);
      if (!signal.aborted) this.#hearAgent(target.name, outcome.said ?? null);
      return outcome;
    };
    this.#agents = createChecker({ ...options, initial: new Map(), probe: ask, onTransition: () => undefined });
  }

  update(targets: readonly ProbeTarget[]): void {
    if (this.#isStopped) return;
    const before = this.#speakers;
    this.#speakers = new Map();
    const asked = targets.flatMap(agentTarget);
    const nowMs = this.#options.env.clock.wallMs();
    for (const target of asked) {
      const old = before.get(target.name);
      const isSame = old?.target.address.text === target.address.text && old.target.port === target.port;
      const initial = this.#initial.get(target.name);
      const held = initial !== undefined && isAgentsWord(initial) ? initial : null;
      const fresh = { state: silentAgent(nowMs), held, told: null };
      this.#speakers.set(target.name, { ...(isSame ? old : fresh), target });
    }
    this.#initial = new Map();
    this.#merged = null;
    this.#probes.update(targets.map(withoutAgent));
    this.#agents.update(asked);
    for (const [name, speaker] of this.#speakers) speaker.told = this.states().get(name) ?? null;
  }

  states(): ReadonlyMap<string, BackendHealth> {
    const of = this.#probes.states();
    if (this.#speakers.size === 0) return of;
    if (this.#merged?.of !== of) {
      const laid = [...of].map(([name, health]) => [name, this.#lay(health, this.#speakers.get(name))] as const);
      this.#merged = { of, states: new Map(laid) };
    }
    return this.#merged.states;
  }

  probeNow(name: string): boolean { return this.#probes.probeNow(name); }
  records(name: string): readonly ProbeRecord[] { return this.#probes.records(name); }

  counts(): CheckerCounts {
    const [a, b] = [this.#probes.counts(), this.#agents.counts()];
    return {
      running: a.running + b.running, waiting: a.waiting + b.waiting, started: a.started + b.started,
      succeeded: a.succeeded + b.succeeded, failed: a.failed + b.failed, inconclusive: a.inconclusive + b.inconclusive,
      delayed: a.delayed + b.delayed,
    };
  }

  stop(): void {
    this.#isStopped = true;
    this.#probes.stop();
    this.#agents.stop();
  }

  #lay(health: BackendHealth, speaker: Speaker | undefined): BackendHealth {
    if (speaker === undefined) return health;
    return health.alive && speaker.held !== null ? speaker.held : withAgent(health, speaker.state);
  }

  #hearProbes(transition: HealthTransition): void {
    const speaker = this.#speakers.get(transition.name);
    if (speaker === undefined) this.#options.onTransition(transition);
    else this.#tell(speaker, transition.atMs);
  }

  #hearAgent(name: string, line: string | null): void {
    const speaker = this.#speakers.get(name);
    if (this.#isStopped || speaker === undefined) return;
    const answer = line === null ? null : parseAgentAnswer(line);
    const nowMs = this.#options.env.clock.wallMs();
    const before = speaker.state;
    if (answer !== null) speaker.state = hearAgent(before, answer, nowMs);
    if (speaker.state === before && speaker.held === null) return;
    speaker.held = null;
    this.#merged = null;
    this.#tell(speaker, nowMs);
  }

  /** Tells what the two together come to, where that is news. */
  #tell(speaker: Speaker, atMs: number): void {
    const { name, pool, backend } = speaker.target;
    const health = this.states().get(name);
    const before = speaker.told;
    if (health === undefined) return;
    speaker.told = health;
    const [from, to] = [before === null ? "unknown" : statusOf(before), statusOf(health)];
    if (from === to && before?.admission === health.admission) return;
    this.#options.onTransition({ from, to, reason: health.reason, atMs, name, pool, backend, health });
  }
}

function statusOf({ alive, known, admission }: BackendHealth): HealthStatus {
  if (!alive) return "down";
  if (!known) return "unknown";
  return admission === 0 ? "draining" : "up";
}

/** Agents are at the backend's own address, and answer for it there. */
function agentTarget(target: ProbeTarget): ProbeTarget[] {
  const { agent } = target.health;
  if (agent === undefined) return [];
  const health: AgentHealth = {
    type: "agent", send: agent.send, intervalMs: agent.intervalMs, timeoutMs: agent.timeoutMs, rise: 1, fall: 1,
    jitter: agent.jitter, port: agent.port, via: "direct", source: agent.source,
  };
  return [{ ...target, port: agent.port, health, through: [] }];
}

/** What an agent is asked has no say in how probes are counted. */
function withoutAgent(target: ProbeTarget): ProbeTarget {
  const { agent, ...health } = target.health;
  return agent === undefined ? target : { ...target, health };
}
