// The seat of the data plane: which plane serves, and how another one takes over while traffic goes on.
// The newcomer is opened and filled before the old one leaves. Knows the Dataplane interface only.

import type { Log } from "../env.ts";
import type { ApplyReport, CloseOptions, Dataplane, DoubtListener, PlaneChoice } from "../dataplane/dataplane.ts";
import type { ClientTimes } from "../health/feedback.ts";
import type { Config } from "../model/config.ts";
import type { FlowListener } from "../model/flows_seen.ts";
import { refusedByXdp } from "../model/features.ts";
import type { ForwardingTable } from "../model/table.ts";
import type { OpenedPlane, OpenPlane } from "./contract.ts";

/** Connections of a proxy that leaves may end by themselves for so long. */
const LEAVE_DRAIN_MS = 10_000;

type CompileFor = (plane: Dataplane) => ForwardingTable;

export class PlaneSeat {
  readonly #open: OpenPlane;
  readonly #log: Log;
  #opened: OpenedPlane;
  readonly #leaving = new Set<Promise<void>>();
  #doubt: DoubtListener = () => undefined;
  #flows: FlowListener = () => undefined;
  #swept: () => void = () => undefined;

  constructor(open: OpenPlane, opened: OpenedPlane, log: Log) {
    this.#open = open;
    this.#opened = opened;
    this.#log = log;
  }

  /** Hears of doubts of whatever plane has the seat. */
  onDoubt(listener: DoubtListener): void {
    this.#doubt = listener;
    this.plane.onDoubt?.(listener);
  }

  /** Hears what becomes of flows of whatever plane has the seat. */
  onFlows(listener: FlowListener): void {
    this.#flows = listener;
    this.plane.onFlows?.(listener);
  }

  /** Hears of sweeps of whatever plane has the seat. */
  onSwept(listener: () => void): void {
    this.#swept = listener;
    this.plane.onSwept?.(listener);
  }

  /** What whatever plane has the seat measures of backends. */
  readonly clients: ClientTimes = {
    answerMs: (name) => this.plane.answerMs?.(name) ?? null,
    handshakeMs: (name) => this.plane.handshakeMs?.(name) ?? null,
  };

  get plane(): Dataplane {
    return this.#opened.plane;
  }

  get choice(): PlaneChoice {
    return this.#opened.choice;
  }

  /**
   * A plane for `config` takes the seat and `compile`'s table, which starts from what the newcomer
   * already holds. When anything fails, the old plane stays as it was. Ports that the old one still
   * holds are failed services in the report: the next apply finds them free.
   */
  async replace(
    config: Config, before: Config, compile: CompileFor,
  ): Promise<{ readonly table: ForwardingTable; readonly report: ApplyReport }> {
    const old = this.#opened;
    const fresh = await this.#open(config);
    const isSameProxy = old.plane.mode === "proxy" && fresh.plane.mode === "proxy"
      && fitsProxy(before, config);
    if (isSameProxy) {
      // XDP was tried again in vain. The proxy at hand does the same and has the connections.
      await fresh.plane.close({ detach: true, drainMs: 0 });
      const table = compile(old.plane);
      const report = await old.plane.apply(table);
      this.#opened = { plane: old.plane, choice: fresh.choice };
      return { table, report };
    }
    let table: ForwardingTable;
    let report: ApplyReport;
    try {
      table = compile(fresh.plane);
      report = await fresh.plane.apply(table);
    } catch (error) {
      await leaveUnused(fresh.plane, old.plane.mode);
      throw error;
    }
    this.#opened = fresh;
    fresh.plane.onDoubt?.(this.#doubt);
    fresh.plane.onFlows?.(this.#flows);
    fresh.plane.onSwept?.(this.#swept);
    const isShared = old.plane.mode === "xdp" && fresh.plane.mode === "xdp";
    this.#leave(old.plane, !isShared);
    return { table, report };
  }

  async close(options: CloseOptions): Promise<void> {
    await this.#opened.plane.close(options);
    await Promise.all(this.#leaving);
  }

  #leave(plane: Dataplane, detach: boolean): void {
    const done = plane.close({ detach, drainMs: LEAVE_DRAIN_MS }).catch((error: unknown) => {
      this.#log.error({ err: error, mode: plane.mode }, "the plane that was replaced did not close");
    }).then(() => { this.#leaving.delete(done); });
    this.#leaving.add(done);
  }
}

/** A plane that never got the seat. Pinned state that it shares or found stays; its own goes. */
export async function leaveUnused(plane: Dataplane, serving: Dataplane["mode"] | null): Promise<void> {
  const isShared = plane.mode === "xdp" && (serving === "xdp" || plane.status().adopted);
  await plane.close({ detach: !isShared, drainMs: 0 });
}

/** Why `after` needs another plane than the one that serves `before`, or null. */
export function whyNewPlane(
  before: Config, after: Config, mode: Dataplane["mode"],
): string | null {
  const [a, b] = [before.dataplane, after.dataplane];
  if (b.mode !== "auto" && b.mode !== mode) return `dataplane.mode becomes ${b.mode}`;
  const refused = refusedByXdp(after);
  if (mode === "xdp" && refused.length > 0) return `XDP cannot serve ${refused.map(({ service }) => service).join(", ")}`;
  if (mode === "proxy") {
    if (!fitsProxy(before, after)) return "dataplane.proxy changes, or the interface for addresses";
    if (b.mode === "proxy") return null;
    if (refused.length > 0) return null;
    // What stood in the way of XDP may be gone.
    if (a.mode === "proxy") return "dataplane.mode allows xdp again";
    if (refusedByXdp(before).length > 0) return "XDP can serve every service now";
  }
  const fields: readonly (readonly [string, (config: Config) => unknown])[] = [
    ["dataplane.interfaces", (each) => each.dataplane.interfaces],
    ["dataplane.macs", (each) => each.dataplane.macs],
    ["dataplane.xdp", (each) => each.dataplane.xdp],
    ["dataplane.tunnelSource", ({ dataplane: { tunnelSource } }) =>
      [tunnelSource.ipv4?.text, tunnelSource.ipv6?.text]],
    ["dataplane.probes", (each) => each.dataplane.probes],
    ["limits", (each) => each.limits],
  ];
  for (const [name, valueOf] of fields) {
    const [from, to] = [JSON.stringify(valueOf(before)), JSON.stringify(valueOf(after))];
    if (from !== to) return `${name} changes from ${from} to ${to}`;
  }
  return null;
}

/** Whether a proxy plane opened for `before` is right for `after`; services come by tables. */
function fitsProxy(before: Config, after: Config): boolean {
  const [a, b] = [before.dataplane, after.dataplane];
  if (a.proxy.bind !== b.proxy.bind || a.proxy.portOffset !== b.proxy.portOffset) return false;
  const needsInterface = after.services.some(({ vip }) => vip.assign === "interface");
  return !needsInterface || a.interfaces[0] === b.interfaces[0];
}
