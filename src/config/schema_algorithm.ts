// The keys of a service that say how a backend is chosen.

import * as z from "zod";

export const algorithmKeys = {
  algorithm: z.enum([
    "maglev", "consistent-hash", "round-robin", "random", "least-connections", "power-of-two", "bounded-load",
    "least-response-time",
  ]).default("maglev").meta({
    description: "How a backend is chosen. maglev, consistent-hash (libketama's continuum): by a hash, on every node "
      + "alike. round-robin, random: new flows in turn, or by chance. least-connections: to whoever has fewest flows for "
      + "its weight. power-of-two: to the one of two random ones that has fewer. bounded-load: as maglev, but to nobody "
      + "who has more than `loadFactor` times a fair share. least-response-time: to the one of two random ones that answers "
      + "sooner, for the flows that it has; in the XDP plane as maglev, with shares that feedback steers by probes and, with nat "
      + "and fullnat, clients' handshakes. All but the first two remember every flow "
      + "([docs/algorithms.md](algorithms.md)).",
  }),
  loadFactor: z.number().min(1.01).max(10).multipleOf(0.01).default(1.25).meta({
    title: "a factor", description: "bounded-load: how many times a fair share of all flows a backend may have.",
  }),
};
