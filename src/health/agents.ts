// Agents beside backends: a second schedule asks them, and what they say is laid over what probes have found.
// Knows both; must never know what becomes of a backend.
//
// As with HAProxy, an agent that cannot be reached says nothing, and what it said last holds: whether the backend
// can be reached is for probes to find out.

import type { BackendHealth } from "../model/table.ts";
import type { AgentHealth } from "../model/health_check.ts";
import type { AgentState } from "./agent_answer.ts";
import { hearAgent, isAgentsWord, parseAgentAnswer, silentAgent, withAgent } from "./agent_answer.ts";
import type { Checker, CheckerCounts, CheckerOptions, Probe } from "./checker.ts";
import { createChecker } from "./checker.ts";
import type { Outcome } from "./judge.ts";
import { Layer } from "./layer.ts";
import { isSamePlace, type ProbeTarget } from "./target.ts";
import { noteOf } from "./transcript.ts";

/** One agent, and the backend that it speaks for. */
interface Speaker {
  readonly target: ProbeTarget;
  state: AgentState;
  /** What was known before a start, until the agent has been asked. */
  held: BackendHealth | null;
}

export function createCheckerWithAgents(options: CheckerOptions): Checker {
  return new CheckerWithAgents(options);
}

class CheckerWithAgents extends Layer {
  readonly #agents: Checker;
  #asked: readonly ProbeTarget[] = [];
  #speakers = new Map<string, Speaker>();
  #initial: ReadonlyMap<string, BackendHealth>;

  constructor(options: CheckerOptions) {
    const initial = new Map(options.initial ?? []);
    const byProbes = new Map([...initial].filter(([, health]) => !isAgentsWord(health)));
    super({ ...options, initial: byProbes }, createChecker);
    this.#initial = initial;
    const ask: Probe = async (target, signal) => {
      const outcome = await options.probe(target, signal);
      if (!signal.aborted) this.#hearAgent(target.name, outcome);
      return outcome;
    };
    this.#agents = createChecker({ ...options, initial: new Map(), probe: ask, onTransition: () => undefined });
  }

  protected get isIdle(): boolean { return this.#speakers.size === 0; }

  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#speakers;
    this.#speakers = new Map();
    this.#asked = targets.flatMap(agentTarget);
    const nowMs = this.env.clock.wallMs();
    for (const target of this.#asked) {
      const old = before.get(target.name);
      const isSame = old !== undefined && isSamePlace(old.target, target);
      const initial = this.#initial.get(target.name);
      const held = initial !== undefined && isAgentsWord(initial) ? initial : null;
      this.#speakers.set(target.name, { ...(isSame ? old : { state: silentAgent(nowMs), held }), target });
    }
    this.#initial = new Map();
    return targets.map(withoutAgent);
  }

  protected override follow(): void { this.#agents.update(this.#asked); }
  protected learn(): void { /* what agents have said stays as it is */ }
  protected release(): void { this.#agents.stop(); }

  override counts(): CheckerCounts {
    const [a, b] = [this.below.counts(), this.#agents.counts()];
    return {
      running: a.running + b.running, waiting: a.waiting + b.waiting, started: a.started + b.started,
      succeeded: a.succeeded + b.succeeded, failed: a.failed + b.failed, inconclusive: a.inconclusive + b.inconclusive,
      delayed: a.delayed + b.delayed,
    };
  }

  protected lay(name: string, health: BackendHealth): BackendHealth {
    const speaker = this.#speakers.get(name);
    if (speaker === undefined) return health;
    return health.alive && speaker.held !== null ? speaker.held : withAgent(health, speaker.state);
  }

  #hearAgent(name: string, outcome: Outcome): void {
    const speaker = this.#speakers.get(name);
    if (this.isStopped || speaker === undefined) return;
    const answer = outcome.said === undefined ? null : parseAgentAnswer(outcome.said);
    const nowMs = this.env.clock.wallMs();
    const before = speaker.state;
    if (answer !== null) speaker.state = hearAgent(before, answer, nowMs);
    if (speaker.state === before && speaker.held === null) return;
    speaker.held = null;
    this.changed();
    this.tell(name, nowMs, [noteOf(outcome, nowMs)]);
  }
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

/** What an agent is asked, and what is made of flows, has no say in how probes are counted. */
function withoutAgent(target: ProbeTarget): ProbeTarget {
  const { agent, outlier, ...health } = target.health;
  return agent === undefined && outlier === undefined ? target : { ...target, health };
}
