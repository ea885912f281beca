// The keys of a pool, and of its backends, that say who takes flows by who else is up. An inline pool has them
// beside its `backends`.

import * as z from "zod";
import { checkPath } from "./formats.ts";
import { checkMinimum, MINIMUM_PATTERN } from "./formats_pool.ts";
import { duration, integer, name } from "./schema_parts.ts";

/** Largest priority, as VRRP and HAProxy number such things: one byte. */
const PRIORITY_MAX = 255;

function minimum(description: string): z.ZodUnion<readonly [z.ZodInt, z.ZodString]> {
  return z.union([
    z.int().meta({ minimum: 1, maximum: 65535 }), z.string().meta({ pattern: MINIMUM_PATTERN }),
  ]).superRefine((value, context) => {
    const complaint = checkMinimum(value);
    if (complaint === null) return;
    context.addIssue({ code: "custom", message: complaint.reason, params: { hint: complaint.hint } });
  }).meta({ title: "a number of backends, or a share such as 50%", description, examples: [1, "50%"] });
}

const reservesSchema = z.strictObject({
  minimum: minimum("The next priority takes flows too while fewer of the backends before it are up.").default(1),
});

const reserves = { description: "When backends of a higher `priority` take flows ([pools.md](pools.md#reserves))." };

const sorrySchema = name("One of the backends, which gets flows only while no other of the pool may: a server that says sorry. It has "
  + "no weight, is not probed, and never counts ([pools.md](pools.md#sorry)); null: there is none.").nullable();

const spillSchema = integer("With a smaller share of the backends in the instance's own `zone` up, in percent of their weight, "
  + "backends of other zones take the rest; they get nothing before ([pools.md](pools.md#zones)). null: zones do not matter.",
  1, 100).nullable();

function command(description: string): z.ZodNullable<z.ZodArray<z.ZodString>> {
  return z.array(z.string().meta({ title: "a text" })).superRefine(([program = "", ...args], context) => {
    const complaint = checkPath(program);
    const hint = "a program by its absolute path, and its arguments";
    if (complaint !== null) context.addIssue({ code: "custom", message: complaint.reason, params: { hint } });
    else if (args.some((each) => each.includes("\0"))) context.addIssue({ code: "custom", message: "an argument holds a NUL" });
  }).meta({ title: "a command and its arguments", description }).nullable();
}

const quorumSchema = z.strictObject({
  minimum: minimum("How many backends of the pool are to be up; those in reserve count, sorry ones do not."),
  regainAfter: duration("A quorum that was lost counts as regained once there have been enough for so long.", "0s", "1h").default("10s"),
  up: command("Run when the quorum is regained, and once after a start that finds it; only with `run --exec-hooks`. "
    + "null: nothing.").default(null),
  down: command("Run when the quorum is lost, at once; only with `run --exec-hooks`. null: nothing.").default(null),
  timeout: duration("Either command is killed then.", "100ms", "10m").default("30s"),
}).meta({
  title: "a quorum",
  description: "A minimum of backends that are up, whose loss is told ([pools.md](pools.md#quorum)); null: there is none.",
});

export function zoneKey(description: string): z.ZodDefault<z.ZodNullable<z.ZodString>> {
  return name(description).nullable().default(null);
}

export const placeKeys = {
  priority: integer("0: takes flows first. Higher ones are reserves, the lower before the higher, for when too few of those "
    + "before them are up.", 0, PRIORITY_MAX).default(0),
  zone: zoneKey("Where it is, such as a rack or a site, for `spillBelow` of its pool; null: in no zone."),
};

export const poolRuleKeys = {
  reserves: reservesSchema.prefault({}).meta(reserves),
  sorry: sorrySchema.default(null),
  spillBelow: spillSchema.default(null),
  quorum: quorumSchema.nullable().default(null),
};

export const inlineRuleKeys = {
  reserves: reservesSchema.optional().meta(reserves),
  sorry: sorrySchema.optional(),
  spillBelow: spillSchema.optional(),
  quorum: quorumSchema.nullable().optional(),
};

/** What the file says of these, perhaps nothing. */
export interface RawRules {
  readonly reserves?: z.output<typeof reservesSchema> | undefined;
  readonly sorry?: string | null | undefined;
  readonly spillBelow?: number | null | undefined;
  readonly quorum?: z.output<typeof quorumSchema> | null | undefined;
}
