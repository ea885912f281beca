// One health probe: a TCP connect, or an HTTP request with or without TLS, answered by an Outcome
// within the timeout. Where it goes through the plane to several virtual addresses, it is one of
// each. Knows sockets through Env and the plane's; must never know schedules, thresholds or other
// probes.

import type { ClientRequest, IncomingMessage } from "node:http";
import { request } from "node:http";
import type { Socket } from "node:net";
import type { Env } from "../env.ts";
import { formatEndpoint } from "../model/address.ts";
import type { Health, ProbeTls } from "../model/config.ts";
import type { Probe } from "./checker.ts";
import type { Outcome } from "./judge.ts";
import type { ProbePlace, ProbeTarget } from "./target.ts";

/**
 * Connects the way a client's packets go. A text says why that cannot be done; it is no fault of
 * the backend.
 */
export type ConnectThrough = (place: ProbePlace) => Socket | string;

/** How much of a body is read for a match. */
const BODY_MAX_BYTES = 64 * 1024;

/** Faults of this host. They end a probe without saying anything of the backend. */
const LOCAL_FAULTS: Readonly<Record<string, string>> = {
  EMFILE: "this process has no file descriptor left",
  ENFILE: "this host has no file descriptor left",
  ENOBUFS: "this host has no buffer space left",
  ENOMEM: "this host has no memory left",
  EADDRNOTAVAIL: "this host has no local port left towards the backend",
};

const FAULTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection closed",
  EHOSTUNREACH: "no route to host",
  ENETUNREACH: "network unreachable",
  ETIMEDOUT: "connection timed out",
};

/** How much of a header is told. */
const HEADER_TOLD_MAX = 100;

type HttpHealth = Extract<Health, { type: "http" }>;
type Verdict = Omit<Outcome, "durationMs">;

const CANCELLED: Verdict = { ok: false, conclusive: false, reason: "cancelled" };

/** One target by one way. */
interface Aim {
  readonly address: ProbeTarget["address"];
  readonly port: number;
  readonly health: Health;
  /** Null: straight to the address. */
  readonly place: ProbePlace | null;
}

/** What opens the sockets. */
interface Doors extends Pick<Env, "net"> {
  readonly connectThrough: ConnectThrough;
}

/** The plane cannot send a probe that way. */
class NoWay extends Error {}

/** The probe of the real (or a simulated) network. */
export function createProbe(
  env: Pick<Env, "clock" | "net">, connectThrough: ConnectThrough,
): Probe {
  const { clock, net } = env;
  const probe = (aim: Aim, signal: AbortSignal): Promise<Outcome> =>
    probeOnce({ clock, net, connectThrough }, aim, signal);
  return async (target, signal) => {
    const { address, port, health, through } = target;
    if (through.length === 0) return await probe({ address, port, health, place: null }, signal);
    const aims = through.map((place) =>
      ({ address: place.address, port: place.port, health, place }));
    return joined(aims, await Promise.all(aims.map((aim) => probe(aim, signal))));
  };
}

/**
 * Everybody has to have answered: the first failure decides, then the first without an answer, then the
 * first that asks for a drain.
 */
function joined(aims: readonly Aim[], outcomes: readonly Outcome[]): Outcome {
  const durationMs = Math.max(...outcomes.map((each) => each.durationMs));
  const failed = outcomes.findIndex(({ ok, conclusive }) => conclusive && !ok);
  const unsaid = outcomes.findIndex(({ conclusive }) => !conclusive);
  const drains = outcomes.findIndex((each) => each.drains === true);
  const at = Math.max(0, [failed, unsaid, drains].find((index) => index !== -1) ?? 0);
  const { address, port } = aims[at]!;
  const others = failed === -1 && unsaid === -1 && aims.length > 1
    ? `, and ${aims.length - 1} more` : "";
  const outcome = outcomes[at]!;
  const reason = `${formatEndpoint(address, port)}${others}: ${outcome.reason}`;
  return { ...outcome, reason, durationMs };
}

function probeOnce(
  env: Pick<Env, "clock"> & Doors, target: Aim, signal: AbortSignal,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const { health } = target;
    if (health.type === "none") {
      resolve({ ok: true, conclusive: true, reason: "no health check", durationMs: 0 });
      return;
    }
    if (signal.aborted) {
      resolve({ ...CANCELLED, durationMs: 0 });
      return;
    }
    const attempt = createAttempt(env, health.timeoutMs, signal, resolve);
    try {
      if (health.type === "tcp") probeTcp(env, target, attempt);
      else probeHttp(env, target, health, attempt);
    } catch (error) {
      attempt.end(verdictOf(error)); // some faults are thrown, not emitted
    }
  });
}

/** What the two kinds of probe share: one deadline, one end. */
interface Attempt {
  /** What the probe is doing, for the reason of a timeout. */
  stage: string;
  /** The first call counts. */
  end(verdict: Verdict): void;
  /** Called once, when the attempt is over. */
  release: () => void;
}

function createAttempt(
  env: Pick<Env, "clock">, timeoutMs: number, signal: AbortSignal,
  resolve: (outcome: Outcome) => void,
): Attempt {
  const startMs = env.clock.monotonicMs();
  let hasEnded = false;
  const attempt: Attempt = {
    stage: "connecting",
    release: () => { /* nothing opened yet */ },
    end: (verdict) => {
      if (hasEnded) return;
      hasEnded = true;
      cancelTimer();
      signal.removeEventListener("abort", onAbort);
      attempt.release();
      resolve({ ...verdict, durationMs: env.clock.monotonicMs() - startMs });
    },
  };
  const onAbort = (): void => { attempt.end(CANCELLED); };
  // After a stall of this process timers run before sockets are read: an answer that is already
  // here gets one more turn of the event loop.
  let cancelTimer = env.clock.after(timeoutMs, () => {
    cancelTimer = env.clock.after(0, () => {
      attempt.end(failure(`timeout after ${timeoutMs} ms while ${attempt.stage}`));
    });
  });
  signal.addEventListener("abort", onAbort);
  return attempt;
}

function failure(reason: string): Verdict {
  return { ok: false, conclusive: true, reason };
}

function success(reason: string): Verdict {
  return { ok: true, conclusive: true, reason };
}

function verdictOf(error: unknown): Verdict {
  if (!(error instanceof Error)) return failure(String(error));
  if (error instanceof NoWay) return { ok: false, conclusive: false, reason: error.message };
  const { message } = error;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const local = LOCAL_FAULTS[code];
  if (local !== undefined) return { ok: false, conclusive: false, reason: `${local} (${code})` };
  if (code.startsWith("HPE_")) return failure(`not an HTTP response: ${message}`);
  const known = FAULTS[code];
  if (known !== undefined) return failure(known);
  return failure(code === "" ? message : `${message} (${code})`);
}

/** Lets go of a socket whose errors no longer interest anybody. */
function discard(socket: Socket, { place, health }: Aim): void {
  socket.on("error", () => { /* the attempt is over */ });
  // A reset leaves no port waiting for a minute. The kernel knows these by their own port alone, and
  // would run out of them at some hundred probes a second.
  const isPlain = health.type === "tcp" || (health.type === "http" && health.tls === null);
  if (place !== null && isPlain && !socket.connecting) socket.resetAndDestroy();
  else socket.destroy();
}

function openSocket(env: Doors, target: Aim): Socket {
  const { address, port, place } = target;
  if (place !== null) {
    const opened = env.connectThrough(place);
    if (typeof opened === "string") throw new NoWay(opened);
    return opened;
  }
  return env.net.connect({ host: address.text, port, family: address.family, noDelay: true });
}

function probeTcp(env: Doors, target: Aim, attempt: Attempt): void {
  const socket = openSocket(env, target);
  attempt.release = () => { discard(socket, target); };
  socket.once("connect", () => { attempt.end(success("connected")); });
  socket.once("error", (error) => { attempt.end(verdictOf(error)); });
  socket.once("close", () => { attempt.end(failure("connection closed")); });
}

function openTls(env: Doors, target: Aim, tls: ProbeTls): Socket {
  return env.net.connectTls({
    host: target.address.text, port: target.port, ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: tls.verify,
    ...(target.place === null ? {} : { socket: openSocket(env, target) }),
    ...(tls.serverName === null ? {} : { servername: tls.serverName }),
  });
}

function hostHeader(target: Aim, health: HttpHealth): string {
  if (health.host !== null) return health.host;
  const isDefaultPort = target.port === (health.tls === null ? 80 : 443);
  if (!isDefaultPort) return formatEndpoint(target.address, target.port);
  return target.address.family === 4 ? target.address.text : `[${target.address.text}]`;
}

function probeHttp(
  env: Doors, target: Aim, health: HttpHealth, attempt: Attempt,
): void {
  const socket = health.tls === null ? openSocket(env, target) : openTls(env, target, health.tls);
  attempt.release = () => { discard(socket, target); };
  if (health.tls !== null) socket.once("connect", () => { attempt.stage = "shaking hands"; });
  socket.once(health.tls === null ? "connect" : "secureConnect", () => {
    attempt.stage = "waiting for the response";
  });
  const sent: ClientRequest = request({
    createConnection: () => socket, method: health.method, path: health.path,
    headers: {
      "Host": hostHeader(target, health), "User-Agent": "pointsman-probe", "Accept": "*/*",
      "Accept-Encoding": "identity", "Connection": "close",
    },
  });
  attempt.release = () => {
    sent.on("error", () => { /* the attempt is over */ });
    discard(socket, target);
    sent.destroy();
  };
  const onResponse = (response: IncomingMessage): void => {
    readResponse(response, health, attempt);
  };
  sent.once("response", onResponse);
  sent.once("upgrade", onResponse); // a 101 nobody asked for is a status like any other
  sent.once("error", (error) => {
    const isCut = error.message === "socket hang up"; // Node's words for an end before the headers'
    attempt.end(isCut ? failure("connection closed without a response") : verdictOf(error));
  });
  sent.end();
}

function readResponse(response: IncomingMessage, health: HttpHealth, attempt: Attempt): void {
  const status = response.statusCode ?? 0;
  response.on("error", (error) => { attempt.end(verdictOf(error)); });
  const drain = drainIn(response, health);
  if (drain !== null) {
    attempt.end({ ...success(drain), drains: true });
  } else if (!health.statuses.some((range) => status >= range.from && status <= range.to)) {
    attempt.end(failure(`status ${status}, expected ${describeStatuses(health.statuses)}`));
  } else if (health.body === null) {
    attempt.end(success(`status ${status}`));
  } else {
    attempt.stage = "reading the body";
    matchBody(response, health.body, attempt, status);
  }
}

/** What the backend says of its drain: 503 with the header, whatever counts as success; else null. */
function drainIn({ statusCode, headersDistinct }: IncomingMessage, { drainHeader }: HttpHealth): string | null {
  if (drainHeader === null || statusCode !== 503) return null;
  const { name, value } = drainHeader;
  const said = (headersDistinct[name] ?? []).find((each) => value === null || each.trim().toLowerCase() === value.toLowerCase());
  return said === undefined ? null : `status 503 with ${name}: ${said.slice(0, HEADER_TOLD_MAX)}`;
}

function describeStatuses(statuses: HttpHealth["statuses"]): string {
  return statuses.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`)).join(", ");
}

/** Looks for the text as bytes, so that one split over two chunks or outside UTF-8 is found too. */
function matchBody(
  response: IncomingMessage, text: string, attempt: Attempt, status: number,
): void {
  const wanted = Buffer.from(text);
  const body = Buffer.alloc(BODY_MAX_BYTES);
  let length = 0;
  response.on("data", (chunk: Buffer) => {
    const from = Math.max(0, length - wanted.length + 1);
    length += chunk.copy(body, length);
    if (body.subarray(from, length).includes(wanted)) {
      attempt.end(success(`status ${status}, body matches`));
    } else if (length === BODY_MAX_BYTES) {
      const reason = `the first ${BODY_MAX_BYTES} bytes of the body lack "${text}"`;
      attempt.end(failure(`status ${status}, ${reason}`));
    }
  });
  response.once("end", () => {
    attempt.end(failure(`status ${status}, the body lacks "${text}"`));
  });
  response.once("close", () => {
    attempt.end(failure("connection closed before the end of the body"));
  });
}
