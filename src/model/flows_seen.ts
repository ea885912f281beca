// What a plane saw become of flows with one backend, without asking: the words in which it is told to who judges
// backends. Knows numbers; must never judge.

export interface FlowsSeen {
  /** Answered by the backend. */
  readonly ok: number;
  /** Refused, reset or closed before any answer, or not let in. */
  readonly failed: number;
  /** Nothing came back, where nothing need come. */
  readonly silent: number;
  /** What befell the last of those that were not answered, for people. */
  readonly reason: string;
}

/** `backend`: "pool/backend". */
export type FlowListener = (backend: string, seen: FlowsSeen) => void;

export const ANSWERED: FlowsSeen = { ok: 1, failed: 0, silent: 0, reason: "" };

export function failedFlow(reason: string): FlowsSeen {
  return { ok: 0, failed: 1, silent: 0, reason };
}

export function silentFlow(reason: string): FlowsSeen {
  return { ok: 0, failed: 0, silent: 1, reason };
}

/** Faults of this host, by Node's codes. They say nothing of a backend. */
export const LOCAL_FAULTS: Readonly<Record<string, string>> = {
  EMFILE: "this process has no file descriptor left",
  ENFILE: "this host has no file descriptor left",
  ENOBUFS: "this host has no buffer space left",
  ENOMEM: "this host has no memory left",
  EADDRNOTAVAIL: "this host has no local port left towards the backend",
  EADDRINUSE: "this host has no local port left",
};
