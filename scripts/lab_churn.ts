// Churn in the lab: backends are added, removed, drained, re-weighted and fall ill while connections stay
// open, and each that breaks is laid to the death of its own backend, or to the balancer. Knows
// backends and an instance's verbs; tests and benchmarks say how long and how much.

import { setTimeout as sleep } from "node:timers/promises";
import type { Broken, ChurnCounts } from "./lab_churn_client.ts";
import type { Lab, LabHost } from "./lab_network.ts";
import { VIP4, VIP6 } from "./lab_network.ts";
import { startLoad, type Instance } from "./lab_services.ts";
import { runIn } from "./namespaces.ts";

export interface ChurnConfig {
  readonly forwarding: string;
  readonly tracking: "minimal" | "full" | "none";
  /** More keys of each service: "secondChance: true". */
  readonly keys?: string;
}

/** Serves churnConfig() of all backends, under this name. */
export type ChurnBalancer = Pick<Instance, "api" | "name">;

export interface ChurnOptions extends ChurnConfig {
  readonly lab: Pick<Lab, "balancer" | "backends">;
  readonly client: LabHost;
  /** All make the same changes. Whether backends are ill is heard from the first one. */
  readonly balancers: readonly ChurnBalancer[];
  /** Half-way one of them dies, of those behind the first. Absent: none. */
  readonly loses?: { readonly balancer: ChurnBalancer; readonly kill: () => Promise<void> };
  readonly address: typeof VIP4 | typeof VIP6;
  readonly connections: number;
  readonly seconds: number;
  readonly everyMs: number;
  /** Whole numbers from 0 to below `limit`. */
  readonly draw: (limit: number) => number;
}

export interface ChurnResult {
  readonly counts: ChurnCounts;
  /** How often each sort of change was made. */
  readonly changes: Readonly<Record<Change, number>>;
  /** Broken although their backend lived: the balancer's doing. */
  readonly moved: readonly Broken[];
  /** Their backend was removed, or counted as dead, while they were open. */
  readonly bereft: readonly Broken[];
}

const CHANGES = ["add", "remove", "drain", "undrain", "weight", "sicken", "heal"] as const;
type Change = (typeof CHANGES)[number];

/** No fewer may be whole, or hardly a connection would be left that must survive. */
const WHOLE_MIN = 4;
const PORT = 9;
const WEIGHT_MAX = 200;
/** What is under way when a backend is said to be dead or alive. */
const SLACK_MS = 2000;
/** Between the word of a death by health and what it does to packets. */
const TOLD_MS = 500;
const ACTOR = "churn";

/** One pool, each address with the service that says who answers. */
export function churnConfig(
  instance: string, hosts: readonly LabHost[], { forwarding, tracking, keys }: ChurnConfig,
): string {
  const backends = hosts.map(({ name, ipv4 }) => `      - { name: ${name}, address: ${ipv4} }`).join("\n");
  const services = [VIP4, VIP6].map((address, at) => `  - { name: named-${at}, address: "${address}", port: ${PORT},`
    + ` protocol: tcp, pool: web, forwarding: ${forwarding}, tracking: ${tracking}${keys === undefined ? "" : `, ${keys}`} }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: xdp, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
  web:
    health: { type: http, path: /health, port: 80, interval: 500ms, timeout: 450ms, rise: 1, fall: 2 }
    backends:
${backends}
services:
${services.join("\n")}
`;
}

/** When each backend was dead, as far as its connections are concerned. */
export class Deaths {
  readonly #spans = new Map<string, { readonly fromMs: number; toMs: number }[]>();
  readonly #moments: { readonly fromMs: number; readonly toMs: number }[] = [];

  begin(name: string, nowMs = Date.now()): void {
    const spans = this.#spans.get(name) ?? [];
    this.#spans.set(name, [...spans, { fromMs: nowMs - SLACK_MS, toMs: Infinity }]);
  }

  end(name: string, nowMs = Date.now()): void {
    for (const span of this.#spans.get(name) ?? []) span.toMs = Math.min(span.toMs, nowMs + SLACK_MS);
  }

  /** Somewhere between the two, packets were sent elsewhere for a death. */
  tookEffect(fromMs: number, toMs = Date.now()): void {
    this.#moments.push({ fromMs, toMs });
  }

  /**
   * One that broke before it heard a name may have been anybody's: it is laid to a death that took effect while it
   * was being opened, and to nothing that was over by then.
   */
  explains({ name, openedMs, brokenMs }: Pick<Broken, "name" | "openedMs" | "brokenMs">): boolean {
    const spans = name === "" ? this.#moments : this.#spans.get(name) ?? [];
    return spans.some(({ fromMs, toMs }) => openedMs <= toMs && brokenMs >= fromMs);
  }
}

/** Makes changes at random, one at a time. */
class Churn {
  readonly changes: Record<Change, number>;
  readonly deaths = new Deaths();
  readonly #options: ChurnOptions;
  #balancers: readonly ChurnBalancer[];
  readonly #present: Set<LabHost>;
  readonly #sick = new Set<LabHost>();
  readonly #drained = new Set<LabHost>();

  constructor(options: ChurnOptions) {
    this.#options = options;
    this.#balancers = options.balancers;
    this.#present = new Set(options.lab.backends);
    this.changes = { add: 0, remove: 0, drain: 0, undrain: 0, weight: 0, sicken: 0, heal: 0 };
  }

  async change(): Promise<void> {
    const { draw, lab } = this.#options;
    const present = [...this.#present];
    const whole = present.filter((host) => !this.#sick.has(host) && !this.#drained.has(host));
    const mayLose = whole.length > WHOLE_MIN ? whole : [];
    const candidates: Readonly<Record<Change, readonly LabHost[]>> = {
      add: lab.backends.filter((host) => !this.#present.has(host)),
      remove: mayLose, drain: mayLose, sicken: mayLose,
      undrain: [...this.#drained].filter((host) => this.#present.has(host)),
      weight: present, heal: [...this.#sick],
    };
    const possible = CHANGES.filter((change) => candidates[change].length > 0);
    const change = possible[draw(possible.length)];
    if (change === undefined) return;
    const hosts = candidates[change];
    const host = hosts[draw(hosts.length)];
    if (host !== undefined) await this.#make(change, host);
    this.changes[change] += 1;
  }

  async #make(change: Change, host: LabHost): Promise<void> {
    const target = `web/${host.name}`;
    const common = { target, actor: ACTOR, reason: null, expiresInMs: null };
    const beginMs = Date.now();
    switch (change) {
      case "add": case "remove":
        if (change === "add") this.#present.add(host);
        else { this.#present.delete(host); this.deaths.begin(host.name); }
        await this.#each(({ name, api }) =>
          api.apply({ name: "churn", text: churnConfig(name, [...this.#present], this.#options), actor: ACTOR }));
        if (change === "add") this.deaths.end(host.name);
        else this.deaths.tookEffect(beginMs);
        return;
      case "drain":
        this.#drained.add(host);
        await this.#each(({ api }) => api.override({ ...common, change: { kind: "drain" } }));
        return;
      case "undrain":
        this.#drained.delete(host);
        await this.#each(({ api }) => api.clearOverrides({ target, kind: "drain", actor: ACTOR }));
        return;
      case "weight": {
        const weight = 1 + this.#options.draw(WEIGHT_MAX);
        await this.#each(({ api }) => api.override({ ...common, change: { kind: "weight", weight } }));
        return;
      }
      case "sicken": this.#sick.add(host); await this.#tell(host, "sick"); return;
      case "heal": this.#sick.delete(host); await this.#tell(host, "well"); return;
    }
  }

  async #each(make: (balancer: ChurnBalancer) => Promise<unknown>): Promise<void> {
    await Promise.all(this.#balancers.map(make));
  }

  /** One of the balancers dies. */
  async lose({ balancer, kill }: NonNullable<ChurnOptions["loses"]>): Promise<void> {
    this.#balancers = this.#balancers.filter((each) => each !== balancer);
    await kill();
  }

  /** The hosts are well again for whoever comes next. */
  async heal(): Promise<void> {
    for (const host of this.#sick) await this.#make("heal", host);
  }

  async #tell(host: LabHost, what: "sick" | "well"): Promise<void> {
    await runIn(this.#options.lab.balancer.namespace, "curl", ["-sf", "-m", "5", "-X", "POST", `http://${host.ipv4}/${what}`]);
  }
}

/** Notes what the probes find, until the signal. */
async function followHealth({ balancers }: ChurnOptions, deaths: Deaths, signal: AbortSignal): Promise<void> {
  const [first] = balancers;
  if (first === undefined) return;
  for await (const { event: { kind, subject, fields } } of first.api.events({ since: 0, signal })) {
    if (kind !== "health") continue;
    const name = subject.replace(/^web\//, "");
    if (fields["to"] === "down") {
      deaths.begin(name);
      deaths.tookEffect(Date.now() - TOLD_MS, Date.now() + TOLD_MS);
    } else if (fields["from"] === "down") deaths.end(name);
  }
}

/** Runs the load and the changes side by side for so long. */
export async function churn(options: ChurnOptions): Promise<ChurnResult> {
  const { client, address, connections, seconds, everyMs } = options;
  let { loses } = options;
  const load = await startLoad(
    client.namespace, "scripts/lab_churn_client.js", address, String(PORT), String(connections), String(seconds),
  );
  const made = new Churn(options);
  const listening = new AbortController();
  const following = followHealth(options, made.deaths, listening.signal);
  const beginMs = Date.now();
  for (let dueMs = beginMs + everyMs; dueMs < beginMs + seconds * 1000; dueMs += everyMs) {
    await sleep(Math.max(0, dueMs - Date.now()));
    await made.change();
    if (loses === undefined || dueMs < beginMs + seconds * 500) continue;
    await made.lose(loses);
    loses = undefined;
  }
  await load.lastLine;
  await made.heal();
  listening.abort();
  await following.catch((error: unknown) => { if (!listening.signal.aborted) throw error; });
  const lines = load.said().trim().split("\n").slice(1).map((line) => JSON.parse(line) as Broken | ChurnCounts);
  const broken = lines.filter((line) => "kind" in line);
  const counts = lines.find((line): line is ChurnCounts => !("kind" in line));
  if (counts === undefined) throw new Error(`the load ended without its counts: ${load.said().slice(-500)}`);
  return {
    counts, changes: made.changes,
    moved: broken.filter((one) => !made.deaths.explains(one)),
    bereft: broken.filter((one) => made.deaths.explains(one)),
  };
}
