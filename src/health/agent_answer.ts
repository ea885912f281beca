// What an agent beside a backend says, and what its words come to: a pure reading of one line of HAProxy's agent
// protocol (configuration manual, agent-check). Knows words; must never know a socket or a probe's outcome.

import type { BackendHealth } from "../model/table.ts";

/** Each aspect stays as it was until a word about it comes. */
export interface AgentState {
  readonly service: "up" | "down";
  readonly standing: "ready" | "drain" | "maint";
  /** How much of its share the backend may take, 0 to 1. */
  readonly share: number;
  /** The words that are in the way, for people; "" where none are. */
  readonly reason: string;
  /** Since when they come to this (wall clock). */
  readonly sinceMs: number;
}

export interface AgentAnswer {
  readonly service: AgentState["service"] | null;
  readonly standing: AgentState["standing"] | null;
  readonly share: number | null;
  /** What was said behind #. */
  readonly note: string;
}

const SERVICE: Readonly<Record<string, AgentState["service"]>> = {
  up: "up", down: "down", stopped: "down", fail: "down", failed: "down",
};
const STANDING: Readonly<Record<string, AgentState["standing"]>> = { ready: "ready", drain: "drain", maint: "maint" };
const NOTE_MAX = 100;

/** Null where no word of the protocol is in it. Of two words about one aspect the later counts. */
export function parseAgentAnswer(line: string): AgentAnswer | null {
  const [words = "", ...notes] = line.split("#");
  let service: AgentAnswer["service"] = null;
  let standing: AgentAnswer["standing"] = null;
  let share: number | null = null;
  let isKnown = false;
  for (const word of words.toLowerCase().split(/[\s,]+/)) {
    const percent = /^(\d{1,5})%$/.exec(word);
    if (percent !== null) share = Math.min(100, Number(percent[1])) / 100;
    else if (Object.hasOwn(SERVICE, word)) service = SERVICE[word]!;
    else if (Object.hasOwn(STANDING, word)) standing = STANDING[word]!;
    else if (!/^maxconn:\d+$/.test(word)) continue; // which is for proxies that count connections
    isKnown = true;
  }
  const note = notes.join("#").replace(/[^ -~]/g, "·").trim().slice(0, NOTE_MAX);
  return isKnown ? { service, standing, share, note } : null;
}

export function silentAgent(nowMs: number): AgentState {
  return { service: "up", standing: "ready", share: 1, reason: "", sinceMs: nowMs };
}

export function hearAgent(state: AgentState, answer: AgentAnswer, nowMs: number): AgentState {
  const service = answer.service ?? state.service;
  const standing = answer.standing ?? state.standing;
  const share = answer.share ?? state.share;
  const isSame = service === state.service && standing === state.standing && share === state.share;
  if (isSame) return state;
  const words = [
    ...(service === "down" ? ["down"] : []), ...(standing === "ready" ? [] : [standing]),
    ...(share === 1 ? [] : [`${Math.round(share * 100)} %`]),
  ].join(", ");
  const reason = words === "" || answer.note === "" ? words : `${words} (${answer.note})`;
  return { service, standing, share, reason, sinceMs: nowMs };
}

/** What marks a reason as an agent's. */
const MARK = "agent: ";

export function isAgentsWord({ reason }: BackendHealth): boolean {
  return reason.startsWith(MARK);
}

/** The agent's words over what probes say: it can take away, and give back what it has taken. */
export function withAgent(health: BackendHealth, state: AgentState): BackendHealth {
  const { service, standing, share, reason, sinceMs } = state;
  if (reason === "" || !health.alive) return health;
  const known = true;
  const said = `${MARK}${reason}`;
  if (service === "down" || standing === "maint") return { alive: false, known, admission: 0, reason: said, sinceMs };
  const admission = standing === "drain" ? 0 : Math.round(health.admission * share);
  // One that drains by its own word has said why.
  return admission === health.admission ? health : { alive: true, known, admission, reason: said, sinceMs };
}
