// What `run` does once another process has taken over: its open connections end by themselves, it tells the other
// one how many are left, and passes on what it is told itself. Decides nothing about traffic.

import type { Pointsman } from "../create.ts";
import type { FlowsElsewhere } from "../dataplane/dataplane.ts";
import type { Clock } from "../env.ts";
import type { Predecessor } from "../supervisor/predecessor.ts";
import type { Heir } from "../supervisor/successor.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import type { Reloader } from "./run.ts";
import { tellMainProcess } from "./systemd.ts";
import type { HandedOver } from "./upgrading.ts";

/** How often it is looked how many connections are left. */
const LOOK_MS = 250;

export interface Leaving {
  readonly io: Io;
  readonly pointsman: Pointsman;
  /** Whom this process has taken over from itself: it may have connections still. */
  readonly predecessor: Predecessor | null;
  readonly handedOver: HandedOver;
  readonly reloader: Reloader;
  /** What connections have when the process is told to end. */
  readonly graceMs: number;
}

/**
 * Another process serves: what is open here may end by itself. Whoever started us waits for us still, so we
 * pass signals on and end with the other one's status; unless systemd knows it as the main process.
 */
export async function leave({ io, pointsman, predecessor, handedOver, reloader, graceMs }: Leaving): Promise<number> {
  const { env } = io;
  const { heir, drainMs } = handedOver;
  const { process: successor } = heir;
  const hurry = new AbortController();
  const endIn = (ms: number): void => {
    predecessor?.end(ms);
    env.clock.after(ms, () => { hurry.abort(); });
  };
  const passOn = (): void => {
    successor.signal(io.interrupted.reason === "SIGINT" ? "SIGINT" : "SIGTERM");
    endIn(graceMs);
  };
  if (io.interrupted.aborted) passOn();
  else io.interrupted.addEventListener("abort", passOn, { once: true });
  reloader.passOn(() => { successor.signal("SIGHUP"); });
  void heir.ending.then(endIn);
  const teller = new FlowTeller(pointsman, heir, env.clock);
  env.log.info({ successor: successor.pid, drainMs }, "another process has taken over; open connections may end by themselves");
  const closed = pointsman.close({ detach: false, drainMs, handedOver: true, hurry: hurry.signal });
  // Of a main process that is no child of its own systemd learns nothing while others of the unit live.
  void successor.ended.then(() => { hurry.abort(); });
  const isMain = await tellMainProcess(env, successor.pid);
  await closed;
  env.log.info({ successor: successor.pid }, "no connection is left here");
  // The one before tells us alone.
  while (predecessor?.hasFlows === true && !hurry.signal.aborted) {
    await new Promise<void>((resolve) => { env.clock.after(LOOK_MS, resolve, true); });
  }
  teller.stop();
  if (isMain) {
    successor.close();
    return EXIT.done;
  }
  return await successor.ended;
}

/** Tells the other process how many connections are left, whenever that has changed. */
class FlowTeller {
  readonly #pointsman: Pointsman;
  readonly #heir: Heir;
  readonly #clock: Clock;
  #told = "";
  #cancel: () => void = () => undefined;

  constructor(pointsman: Pointsman, heir: Heir, clock: Clock) {
    this.#pointsman = pointsman;
    this.#heir = heir;
    this.#clock = clock;
    this.#look();
  }

  /** With what is left now. */
  stop(): void {
    this.#cancel();
    this.#tell();
  }

  #look(): void {
    this.#tell();
    this.#cancel = this.#clock.after(LOOK_MS, () => { this.#look(); });
  }

  #tell(): void {
    const held: FlowsElsewhere | undefined = this.#pointsman.supervisor.bequest()?.heldFlows();
    const text = JSON.stringify(held);
    if (held === undefined || text === this.#told) return;
    this.#told = text;
    this.#heir.tell(held);
  }
}
