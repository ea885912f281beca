// What events of changed health have in their fields beside words and numbers. Knows shapes only.

import { z } from "zod";

export const probeNoteSchema = z.strictObject({
  atMs: z.number(),
  durationMs: z.number(),
  ok: z.boolean(),
  conclusive: z.boolean(),
  reason: z.string(),
});

/** The probes of such fields, oldest first; none in those of other events, and of a server of another version. */
export function probesIn(fields: unknown): readonly z.infer<typeof probeNoteSchema>[] {
  const found = z.object({ probes: z.array(probeNoteSchema) }).safeParse(fields);
  return found.success ? found.data.probes : [];
}
