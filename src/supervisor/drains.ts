// How far the drains in force have come: how many flows are left, and when a backend has none any more, or
// has had to give up the rest, which is kept, so that a restart does not tell it again. Knows overrides, the table that
// is published and counts; must never change any of them. Whether time is over is src/model/effective.ts's rule: this
// one tells what became of it.

import type { DrainView } from "../api/schemas.ts";
import type { Clock } from "../env.ts";
import { isFailure } from "../errors.ts";
import { activeOverrides, deadlineOf } from "../model/effective.ts";
import { amountOf, certainAfterMs } from "../model/held_flows.ts";
import type { FlowAmount, HeldFlows } from "../model/held_flows.ts";
import { translates } from "../model/nat.ts";
import type { Destination, ForwardingTable, Override, Service } from "../model/table.ts";
import type { EndedDrain, StateDirectory } from "./state.ts";

export interface DrainsOptions {
  readonly clock: Clock;
  readonly state: Pick<StateDirectory, "endedDrains" | "saveEndedDrains"> | null;
  readonly overrides: () => readonly Override[];
  /** What is published; null: nothing yet. */
  readonly table: () => ForwardingTable | null;
  readonly mode: () => "xdp" | "proxy";
  /** Flows now, by "pool/backend", as a drain counts them. */
  readonly flows: () => ReadonlyMap<string, HeldFlows>;
  readonly record: (target: string, message: string, fields: object) => void;
}

interface Progress {
  readonly override: Override;
  /** Since when no new flow can have come to it (monotonic); null: not published yet. */
  closedAtMs: number | null;
  /** Of the last look before its end; null: nobody has looked. */
  flows: HeldFlows | null;
  end: { readonly how: "empty" | "deadline"; readonly atMs: number; readonly flows: FlowAmount } | null;
}

export class Drains {
  readonly #options: DrainsOptions;
  #all = new Map<string, Progress>();
  /** What the state directory holds. */
  #kept: readonly EndedDrain[];

  constructor(options: DrainsOptions) {
    this.#options = options;
    this.#kept = options.state?.endedDrains() ?? [];
  }

  /** Brings everything up to date. Cheap where nothing is drained. */
  look(): void {
    this.#follow();
    const open = [...this.#all.values()].filter(({ end }) => end === null);
    const published = this.#options.table();
    if (open.length > 0 && published !== null) {
      const flows = this.#options.flows();
      for (const progress of open) this.#advance(progress, published, flows);
    }
    this.#keep();
  }

  #follow(): void {
    const { clock, overrides } = this.#options;
    const before = this.#all;
    this.#all = new Map();
    for (const [target, { standing }] of activeOverrides(overrides(), clock.wallMs())) {
      if (standing?.change.kind !== "drain") continue;
      const known = before.get(target);
      this.#all.set(target, known?.override === standing ? known
        : { override: standing, closedAtMs: null, flows: null, end: this.#endOf(standing) });
    }
  }

  /** As it was told by an earlier supervisor. */
  #endOf({ target, atMs: startedAtMs }: Override): Progress["end"] {
    const kept = this.#kept.find((each) => each.target === target && each.startedAtMs === startedAtMs);
    return kept === undefined ? null : { how: kept.how, atMs: kept.atMs, flows: kept.flows };
  }

  /** Tried again at the next look where it fails. */
  #keep(): void {
    const ended = [...this.#all.values()].flatMap(({ override: { target, atMs }, end }): EndedDrain[] =>
      end === null ? [] : [{ target, startedAtMs: atMs, ...end }]);
    if (JSON.stringify(ended) === JSON.stringify(this.#kept)) return;
    try {
      this.#options.state?.saveEndedDrains(ended);
      this.#kept = ended;
    } catch (error) {
      if (!isFailure(error, "SYSTEM")) throw error; // the directory has told it
    }
  }

  /** Backends whose last flow has ended. */
  empty(): ReadonlySet<string> {
    return new Set([...this.#all].flatMap(([target, { end }]) => (end === null ? [] : [target])));
  }

  views(): DrainView[] {
    return [...this.#all.values()].map((progress) => this.#view(progress));
  }

  #advance(progress: Progress, table: ForwardingTable, flows: ReadonlyMap<string, HeldFlows>): void {
    const { override } = progress;
    const { clock } = this.#options;
    const [nowMs, wallMs] = [clock.monotonicMs(), clock.wallMs()];
    const destinations = destinationsOf(table, override.target);
    const deadlineMs = deadlineOf(override);
    if (deadlineMs !== null && deadlineMs <= wallMs) {
      // The turn that carries it out may still be to come.
      if (destinations.every(({ resets }) => resets)) this.#end(progress, "deadline");
      return;
    }
    if (destinations.some(({ admission }) => admission > 0)) return;
    progress.closedAtMs ??= nowMs;
    // Nobody uses its pool.
    const held = destinations.length === 0 ? { count: 0, kind: "exact" as const, atMs: nowMs } : flows.get(override.target);
    if (held === undefined) return;
    progress.flows = held;
    const isCounted = held.atMs >= progress.closedAtMs;
    if (isCounted && held.count === 0 && wallMs >= this.#certainAtMs(override, table)) this.#end(progress, "empty");
  }

  #end(progress: Progress, how: "empty" | "deadline"): void {
    const { target } = progress.override;
    const { flows, resets, moves } = this.#view(progress);
    progress.end = { how, atMs: this.#options.clock.wallMs(), flows };
    const message = how === "empty" ? "is drained: no flow is left"
      : `is drained: its time is over, and ${describeRest({ flows, resets, moves })}`;
    this.#options.record(target, message, { how, flows });
  }

  /** When a count of none says that there are none (wall clock). */
  #certainAtMs({ target, atMs }: Override, table: ForwardingTable): number {
    if (this.#options.mode() === "proxy") return atMs;
    return atMs + Math.max(0, ...usersOf(table, target).map(certainAfterMs));
  }

  #view({ override, flows, end }: Progress): DrainView {
    const { target, actor, reason, atMs } = override;
    const table = this.#options.table();
    const users = table === null ? [] : usersOf(table, target);
    const isReset = (service: Service): boolean => endsWithReset(service, this.#options.mode());
    const certainAtMs = table === null ? atMs : this.#certainAtMs(override, table);
    return {
      target, actor, reason, startedAtMs: atMs,
      deadlineAtMs: deadlineOf(override),
      flows: end?.flows ?? amountOf(flows),
      certainAtMs: certainAtMs > atMs ? certainAtMs : null,
      resets: users.filter(isReset).map(({ name }) => name),
      moves: users.filter((service) => !isReset(service)).map(({ name }) => name),
      end: end?.how ?? null,
      endedAtMs: end?.atMs ?? null,
    };
  }
}

/** Whether flows of a service end with a reset when their backend has to give them up. */
export function endsWithReset({ config }: Service, mode: "xdp" | "proxy"): boolean {
  return config.protocol === "tcp" && (mode === "proxy" || translates(config.forwarding));
}

/** What becomes of flows at the deadline, for people. */
export function describeRest({ flows, resets, moves }: Pick<DrainView, "flows" | "resets" | "moves">): string {
  const rest = flows.count === null ? "what is left" : `${flows.count} flow(s) (${flows.kind})`;
  if (moves.length === 0) return `${rest} are reset`;
  const moved = "sent to other backends, which do not know them";
  return resets.length === 0 ? `${rest} are ${moved}`
    : `${rest} are reset (${resets.join(", ")}) or ${moved} (${moves.join(", ")})`;
}

function destinationsOf(table: ForwardingTable, name: string): Destination[] {
  return [...table.destinations.values()].filter((each) => each.name === name);
}

function usersOf(table: ForwardingTable, name: string): Service[] {
  const ids = new Set(destinationsOf(table, name).map(({ id }) => id));
  return table.services.filter(({ destinations }) => destinations.some((id) => ids.has(id)));
}
