// The part of the config file that is about translated sources (nat and fullnat): whose addresses and
// ports, and how long a flow keeps one.

import * as z from "zod";
import * as formats from "./formats.ts";
import { duration, integer, text } from "./schema_parts.ts";

export const natSchema = z.strictObject({
  sources: z.array(text(formats.checkHostAddress, {
    title: "an IP address", examples: ["192.0.2.7", "2001:db8::7"],
  })).default([]).meta({
    title: "a list of addresses",
    description: "What backends of `fullnat` see as their client: addresses of this host, of one "
      + "family or both, at most 16 of each. None of a family: this host's own address towards the "
      + "backend. Each has all of the ports towards each backend, so two addresses take twice the "
      + "connections.",
  }),
  ports: text(formats.checkNatPorts, {
    title: "a range of ports", pattern: formats.PORTS_PATTERN, examples: ["10000-32767"],
    description: "Source ports that translated flows get. Not those of the host's own connections "
      + "(net.ipv4.ip_local_port_range), which would meet them.",
  }).default("10000-32767"),
  nodes: integer(
    "How many nodes share the sources: each has its own part of the ports.", 1, 256,
  ).default(1),
  node: integer("Which of the parts is this node's, from 0.", 0, 255).default(0),
  timeouts: z.strictObject({
    syn: duration("A TCP flow whose backend has not answered yet, or whose client has sent nothing but SYNs.", "1s", "1h").default("30s"),
    established: duration(
      "A TCP flow of both. `check` warns below 124m (RFC 5382, REQ-5).", "1s", "168h",
    ).default("124m"),
    fin: duration("After a FIN of either side.", "1s", "168h").default("2m"),
    rst: duration("After an RST of either side.", "1s", "1h").default("10s"),
    udp: duration("A UDP flow.", "1s", "168h").default("2m"),
  }).prefault({}).meta({
    description: "How long a translated flow stays without a packet in either direction.",
  }),
}).meta({ description: "Sources of translated flows (`forwarding: nat` and `fullnat`)." });
