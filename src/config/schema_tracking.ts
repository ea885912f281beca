// The keys of a service that say which of its flows are remembered, and for how long.

import * as z from "zod";
import { duration } from "./schema_parts.ts";

export const trackingKeys = {
  tracking: z.enum(["minimal", "full", "none"]).optional().meta({
    description: "Which established flows are remembered, so that they stay put when the ring "
      + "changes: those that it would misplace, all, or none. nat and fullnat remember all. Default: minimal, or full "
      + "where `algorithm` places each flow for itself, or clients are remembered (`affinityTimeout`).",
  }),
  flowIdle: duration(
    "A remembered flow without a packet for so long is forgotten. Default: 15m for tcp, 60s for "
      + "udp.",
    "1s", "168h").optional(),
  changeWindow: duration(
    "For so long after a change, flows that send a packet are remembered with the backend they "
      + "have; those that are silent for longer may move. With tcp at most flowIdle, with udp at "
      + "least. Default: 5m for tcp, flowIdle for udp.",
    "1s", "24h").optional(),
  secondChance: z.boolean().default(false).meta({
    description: "While flows of one slot are with several backends, packets name the others, and a backend that has "
      + "no socket for one sends it on (decap --second-chance). For TCP in gue and gre.",
  }),
};
