// One thing about this host that does not suit a config.

export interface Finding {
  /** error: something cannot work at all; warning: some traffic suffers, or may. */
  readonly level: "error" | "warning";
  /** What it is about, as a title. */
  readonly name: string;
  /** What was found and what comes of it, in words. */
  readonly found: string;
  /** What would help. */
  readonly remedy: string;
}

/** Why XDP cannot run in some mode, and what would let it. */
export type Obstacle = Pick<Finding, "found" | "remedy">;
