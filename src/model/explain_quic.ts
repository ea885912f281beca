// The steps of explain that are about a QUIC connection ID: which config it names, which server ID is
// in it, and whose that is, or why it says nothing. Pure; knows words, and decides nothing.

import type { ExplainStep } from "./explain.ts";
import { hexText } from "./hex.ts";
import { cidBytes, configIdOf, encodedLength, QUIC_UNROUTABLE_CONFIG } from "./quic_lb.ts";
import type { QuicLbConfig } from "./quic_lb.ts";
import { CID_WINDOW_BYTES, readCid } from "./quic_route.ts";
import type { QuicOutcome } from "./quic_route.ts";
import type { Destination, Service } from "./table.ts";

const SHORT_HEADER = 0x40;

/** A packet with a short header and this ID, followed by zeros. */
export function shortHeader(cid: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(1 + Math.max(CID_WINDOW_BYTES, cid.length));
  datagram[0] = SHORT_HEADER;
  datagram.set(cid, 1);
  return datagram;
}

/** `outcome` null: the service does not look at connection IDs, or the packet never got so far. */
export function connectionIdSteps(
  service: Service, cid: Uint8Array, chosen: Destination | null, outcome: QuicOutcome | null,
): ExplainStep[] {
  const step = "connection ID";
  const { quicLb } = service;
  if (quicLb === null) return [{ step, detail: `${service.name} has no quicLb: not looked at` }];
  if (outcome === null) return [];
  const first = cid[0] ?? 0;
  const { config, serverId } = readCid(quicLb, shortHeader(cid));
  const steps: ExplainStep[] = [
    { step, detail: `${hexText(cid)} names config ${configIdOf(first)}${configWords(config, first)}` },
  ];
  if (config !== null && cid.length < cidBytes(config)) {
    steps.push({ step, detail: `has ${cid.length} bytes of ${cidBytes(config)}: zeros stand for the rest` });
  }
  if (serverId !== null) steps.push({ step: "server ID", detail: serverId });
  steps.push({ step: outcome === "routed" ? "routed by ID" : "fallback", detail: why(outcome, chosen, cid, config) });
  return steps;
}

function configWords(config: QuicLbConfig | null, first: number): string {
  if (config === null) {
    return configIdOf(first) === QUIC_UNROUTABLE_CONFIG ? ", which is reserved for IDs nobody can route" : "";
  }
  const { mode, serverIdBytes, nonceBytes } = config;
  return `: ${mode}, server ID of ${serverIdBytes} and nonce of ${nonceBytes} bytes`;
}

function why(
  outcome: QuicOutcome, chosen: Destination | null, cid: Uint8Array, config: QuicLbConfig | null,
): string {
  const fallback = "so flow table and ring decide";
  switch (outcome) {
    case "routed": return `it is ${chosen?.name ?? "nobody"}'s, wherever the packet comes from`;
    case "no_config": return `no config has this number, ${fallback}`;
    case "no_server": return `no backend has this server ID, ${fallback}`;
    case "server_down": return `the backend with this server ID is not alive, ${fallback}`;
    case "no_id": {
      const said = encodedLength(cid[0] ?? 0) + 1;
      const wanted = config === null ? "" : `, and its config asks for ${cidBytes(config)} at least`;
      return `its first byte says a length of ${said}${wanted}, ${fallback}`;
    }
  }
}
