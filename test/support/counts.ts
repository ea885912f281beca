// The one table of how often each randomised test runs, and the one seed they all start from. Knows
// names and numbers; must never know what a test does. `npm test` takes the short counts, so does
// CI; POINTSMAN_LONG=1 (npm run test:long) takes the long ones that the issues ask for.

import fc from "fast-check";

interface Runs {
  readonly short: number;
  readonly long: number;
}

/** Add a row for each randomised test; its name is what `npm test -- NAME` finds it by. */
const COUNTS = {
  "address": { short: 300, long: 50_000 },
  "aes": { short: 200, long: 20_000 },
  "abi-codec": { short: 200, long: 20_000 },
  "btf-garbage": { short: 200, long: 50_000 },
  "setup-plan": { short: 300, long: 20_000 },
  "config": { short: 200, long: 20_000 },
  "quic-lb": { short: 300, long: 50_000 },
  "ring-shares": { short: 30, long: 1_000 },
  "ring-lending": { short: 30, long: 1_000 },
  "flow-hash": { short: 500, long: 100_000 },
  "table": { short: 100, long: 10_000 },
  "decide": { short: 500, long: 100_000 },
  "pick": { short: 200, long: 20_000 },
  "feedback": { short: 300, long: 20_000 },
  "feedback-loop": { short: 20, long: 1_000 },
  "pool-rules": { short: 200, long: 20_000 },
  "region-steps": { short: 100, long: 10_000 },
  "region-changes": { short: 100, long: 5_000 },
  "region-blocks": { short: 100, long: 5_000 },
  "regions": { short: 100, long: 500 },
  "split": { short: 200, long: 20_000 },
  "lookup": { short: 200, long: 20_000 },
  "image": { short: 100, long: 10_000 },
  "judge": { short: 300, long: 50_000 },
  "netlink": { short: 300, long: 50_000 },
  "pcap": { short: 200, long: 20_000 },
  /** Answers of servers to health probes. */
  "probes": { short: 300, long: 5_000 },
  /** Reloads and answers, of backends with the same targets. */
  "probe_sharing": { short: 100, long: 10_000 },
  "http1": { short: 2_000, long: 200_000 },
  "http2": { short: 2_000, long: 200_000 },
  /** With a server of nghttp2's, and with servers of random bytes: a connection each. */
  "http2-peers": { short: 40, long: 5_000 },
  "http2-servers": { short: 150, long: 20_000 },
  "proxy": { short: 50, long: 2_000 },
  "slot-states": { short: 100, long: 50_000 },
  "simulation": { short: 20, long: 1_000 },
  /** Rounds of the load itself: seconds and connections are the test's. */
  "churn": { short: 1, long: 1 },
  /** Sequences of changes under two balancers, of which one dies. */
  "lab_second_chance": { short: 1, long: 20 },
  "fuzz": { short: 50_000, long: 2_000_000 },
  /** Points at which a supervisor is killed, of each change and each way to make it; the long one is all of them. */
  "crash-points": { short: 1, long: 1_000 },
  /** The same of an upgrade from maps of another shape. */
  "upgrade-points": { short: 4, long: 1_000 },
  "crash-kills": { short: 1, long: 50 },
  "lab_kills": { short: 3, long: 200 },
  /** For each way of forwarding. */
  "packets": { short: 4_000, long: 5_000_000 },
} as const satisfies Readonly<Record<string, Runs>>;

export type CountName = keyof typeof COUNTS;

/** True under `npm run test:long`. */
export function long(): boolean {
  return process.env["POINTSMAN_LONG"] === "1";
}

/** Why what takes minutes is left to test:long and to CI, or null where this is one of them. */
export function whyNotThorough(): string | null {
  return long() || process.env["CI"] === "true" ? null : "part of `npm run test:long` and of CI";
}

/** How many runs the randomised test of this name makes. */
export function count(name: CountName): number {
  return COUNTS[name][long() ? "long" : "short"];
}

/** The seed of every randomised test: SEED from the environment, else 1. A 32-bit integer. */
export function seed(): number {
  const text = process.env["SEED"];
  if (text === undefined || text === "") return 1;
  if (!/^-?\d{1,10}$/.test(text)) throw new RangeError(`SEED is a 32-bit integer, not "${text}"`);
  return Number(text) | 0;
}

/** The command that repeats a failed randomised test. */
export function replayCommand(name: string): string {
  return `SEED=${seed()} ${long() ? "POINTSMAN_LONG=1 " : ""}npm test -- ${name}`;
}

/** fast-check's parameters for the test of this name. */
export function parameters(name: CountName): { seed: number; numRuns: number } {
  return { seed: seed(), numRuns: count(name) };
}

/** fc.assert with the count of the table; a failure says how to repeat it. */
export function assertProperty<T>(name: CountName, property: fc.IProperty<T>): void {
  randomised(name, () => { fc.assert(property, parameters(name)); });
}

/** The same for properties that await. */
export async function assertPropertyAsync<T>(
  name: CountName,
  property: fc.IAsyncProperty<T>,
): Promise<void> {
  await randomised(name, async () => {
    await fc.assert(property, parameters(name));
  });
}

/**
 * Runs a randomised test of another shape; a failure, thrown or rejected, says how to repeat it.
 */
export function randomised<R>(
  name: CountName,
  body: (run: { seed: number; count: number }) => R,
): R {
  try {
    const result = body({ seed: seed(), count: count(name) });
    if (result instanceof Promise)
      return result.catch((error: unknown) => {
        throw withReplay(name, error);
      }) as R;
    return result;
  } catch (error) {
    throw withReplay(name, error);
  }
}

function withReplay(name: string, error: unknown): unknown {
  if (!(error instanceof Error))
    return new Error(`${String(error)}\nrepeat with: ${replayCommand(name)}`);
  error.message += `\nrepeat with: ${replayCommand(name)}`;
  return error;
}
