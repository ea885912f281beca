// Whether a backend answers a connection at all, which is all that a layer-4 proxy can tell of how it does: the first
// byte says yes, a reset or an end before it no. Knows two sockets; must never change what goes through them.

import type { Socket } from "node:net";
import { ANSWERED, failedFlow, silentFlow, type FlowsSeen } from "../../model/flows_seen.ts";

/** A backend that leaves within so long, to a client that has said nothing yet, has not tired of waiting for it. */
const EARLY_MS = 1000;

/** `from`: the backend, which has taken the connection. */
export interface AnswerWatch {
  readonly from: Socket;
  readonly client: Socket;
  readonly nowMs: () => number;
  /** Called once, or never: of a client that left before it was answered nothing is known. */
  readonly tell: (seen: FlowsSeen) => void;
}

/** What it returns is to be called when the connection is given up because nothing moves. */
export function watchFirstAnswer({ from, client, nowMs, tell }: AnswerWatch): () => void {
  const joinedAtMs = nowMs();
  let isOpen = true;
  const end = (seen: FlowsSeen | null): void => {
    if (!isOpen) return;
    isOpen = false;
    from.off("data", onData);
    if (seen !== null) tell(seen);
  };
  const isClientsTurn = (): boolean => client.bytesRead === 0 && nowMs() - joinedAtMs > EARLY_MS;
  const onData = (): void => { end(ANSWERED); };
  const onGone = (how: string) => (): void => {
    // Who has said all there is to say may not want an answer.
    const isWanted = !client.destroyed && !client.readableEnded && !isClientsTurn();
    end(isWanted ? failedFlow(`${how} before any answer`) : null);
  };
  from.on("data", onData);
  from.once("end", onGone("connection closed"));
  // Before who resets the client for it.
  from.prependOnceListener("error", onGone("connection reset"));
  return () => { end(client.bytesRead === 0 ? null : silentFlow("no answer until the idle timeout")); };
}
