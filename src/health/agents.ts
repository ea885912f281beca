// Agents beside backends: a second schedule asks them, and what they say is laid over what probes have found.
// Knows both; must never know what becomes of a backend.
//
// As with HAProxy, an agent that cannot be reached says nothing, and what it said last holds: whether the backend
// can be reached is for probes to find out.

import type { BackendHealth } from "../model/table.ts";
import type { AgentHealth } from "../model/health_check.ts";
import type { AgentState } from "./agent_answer.ts";
import { hearAgent, isAgentsWord, parseAgentAnswer, silentAgent, withAgent } from "./agent_answer.ts";
import type { Checker, CheckerOptions } from "./checker.ts";
import { createChecker } from "./checker.ts";
import type { Outcome } from "./judge.ts";
import { Layer } from "./layer.ts";
import { ProbeSchedule, type ProbeCounts } from "./schedule.ts";
import { isSamePlace, probeKey, type ActiveTarget, type ProbeTarget } from "./target.ts";
import { noteOf } from "./transcript.ts";

/** One agent, and the backend that it speaks for. Several backends may have one agent. */
interface Speaker {
  readonly target: ActiveTarget;
  readonly key: string;
  state: AgentState;
  /** What was known before a start, until the agent has been asked. */
  held: BackendHealth | null;
}

export function createCheckerWithAgents(options: CheckerOptions): Checker {
  return new CheckerWithAgents(options);
}

class CheckerWithAgents extends Layer {
  readonly #agents: ProbeSchedule;
  #speakers = new Map<string, Speaker>();
  /** Those that are new, and begin with what an agent has said to others. */
  #met: readonly string[] = [];
  #initial: ReadonlyMap<string, BackendHealth>;

  constructor(options: CheckerOptions) {
    const initial = new Map(options.initial ?? []);
    const byProbes = new Map([...initial].filter(([, health]) => !isAgentsWord(health)));
    super({ ...options, initial: byProbes }, createChecker);
    this.#initial = initial;
    this.#agents = new ProbeSchedule(options);
  }

  protected get isIdle(): boolean { return this.#speakers.size === 0; }

  /** What an agent has said holds for whoever has the same one, too: the words need not come again. */
  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#speakers;
    const said = new Map([...before.values()].map((speaker) => [speaker.key, speaker]));
    const nowMs = this.env.clock.wallMs();
    const met: string[] = [];
    this.#speakers = new Map(targets.flatMap(agentTarget).map((target) => {
      const key = probeKey(target);
      const old = before.get(target.name);
      const own = old !== undefined && isSamePlace(old.target, target) ? old : null;
      const shared = own === null ? said.get(key) : undefined;
      if (shared !== undefined && shared.state.reason !== "") met.push(target.name);
      const initial = this.#initial.get(target.name);
      const held = initial !== undefined && isAgentsWord(initial) ? initial : null;
      return [target.name, { ...(own ?? shared ?? { state: silentAgent(nowMs), held }), target, key }];
    }));
    this.#initial = new Map();
    this.#met = met;
    return targets;
  }

  protected override follow(): void {
    this.#agents.update([...this.#speakers.values()].map(({ target, key }) => ({
      target, key, intervalMs: () => target.health.intervalMs, hear: (outcome) => this.#hearAgent(target.name, outcome),
    })));
    for (const name of this.#met) this.tell(name, this.env.clock.wallMs(), []);
  }

  protected learn(): void { /* what agents have said stays as it is */ }
  protected release(): void { this.#agents.update([]); }

  override counts(): ProbeCounts {
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

  #hearAgent(name: string, outcome: Outcome): () => void {
    const speaker = this.#speakers.get(name);
    if (speaker === undefined) return () => undefined;
    const answer = outcome.said === undefined ? null : parseAgentAnswer(outcome.said);
    const nowMs = this.env.clock.wallMs();
    const before = speaker.state;
    if (answer !== null) speaker.state = hearAgent(before, answer, nowMs);
    if (speaker.state === before && speaker.held === null) return () => undefined;
    speaker.held = null;
    this.changed();
    return () => { this.tell(name, nowMs, [noteOf(outcome, nowMs)]); };
  }
}

/** Agents are at the backend's own address, and answer for it there. */
function agentTarget(target: ProbeTarget): ActiveTarget[] {
  const { agent } = target.health;
  if (agent === undefined) return [];
  const health: AgentHealth = {
    type: "agent", send: agent.send, intervalMs: agent.intervalMs, timeoutMs: agent.timeoutMs, rise: 1, fall: 1,
    jitter: agent.jitter, port: agent.port, via: "direct", source: agent.source,
  };
  return [{ ...target, port: agent.port, health, through: [] }];
}
