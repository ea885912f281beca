// Our HTTP/2 client on real connections: what nghttp2 (Node's server) makes of its headers and it of nghttp2's, and
// servers made of bytes, which end no more than the one attempt.

import fc from "fast-check";
import { execFile } from "node:child_process";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Field } from "../../src/health/probes/http_fields.ts";
import { encodeRequest, Http2Exchange } from "../../src/health/probes/http2_exchange.ts";
import { encodeFrame, FLAG, numbered, TYPE } from "../../src/health/probes/http2_frames.ts";
import type { GrpcHealth, HttpHealth } from "../../src/model/health_check.ts";
import { assertPropertyAsync } from "../support/counts.ts";
import { base64, usePeer, type Answer } from "../support/http2_peer.ts";
import { raw, run, TIMING } from "../support/probe_world.ts";

const HTTP2: HttpHealth = {
  type: "http", version: 2, method: "GET", path: "/health", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: null, bodyMatches: null, json: [], drainHeader: null, tls: null, ...TIMING,
};
const GRPC: GrpcHealth = { type: "grpc", service: "", host: null, tls: null, ...TIMING };
const peer = usePeer();
/** Of what is built. */
const PROBER = fileURLToPath(new URL("../support/http2_prober.mjs", import.meta.url));

interface Heard {
  readonly fields: readonly Field[];
  readonly body: Buffer;
  readonly trailers: readonly Field[];
}

/** One exchange, without a probe around it. */
function ask(port: number, fields: readonly Field[]): Promise<Heard> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" });
    let isWhole = false;
    let answered: readonly Field[] = [];
    const body: Buffer[] = [];
    const machine = new Http2Exchange({
      response: (_status, heard) => { answered = heard; },
      data: (bytes) => { body.push(bytes); },
      end: (trailers) => {
        machine.leave();
        isWhole = true;
        resolve({ fields: answered, body: Buffer.concat(body), trailers });
      },
    }, false);
    socket.on("error", reject);
    socket.on("close", () => { reject(new Error("cut")); });
    socket.on("data", (piece: Buffer) => {
      try {
        machine.hear(piece);
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
      socket.write(machine.takeUnsaid());
      if (isWhole) socket.destroy();
    });
    socket.write(encodeRequest({
      fields: [[":method", "GET"], [":scheme", "http"], [":authority", "x"], [":path", "/"], ...fields], body: null,
    }));
  });
}

/** What a value of nghttp2's may have: no controls, and no blank at an end. */
const value = fc.string({ unit: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 0x21, max: 0x7e }) }, fc.integer({ min: 0x80, max: 0xff }))
  .map((code) => String.fromCharCode(code)), maxLength: 200 });
const fields = fc.array(value, { maxLength: 20 })
  .map((values) => values.map((text, at): Field => [["age", "x-a", "server", "x-long-name-of-a-header"][at % 4]! + (at >= 4 ? String(at) : ""), text]));

describe("nghttp2", () => {
  it("and we read each other's headers, trailers and bodies", async () => {
    const port = await peer().listen();
    await assertPropertyAsync("http2-peers", fc.asyncProperty(fields, fields, fc.uint8Array({ maxLength: 60_000 }), async (sent, trailers, body) => {
      const answer: Answer = { headers: Object.fromEntries(sent), trailers: Object.fromEntries(trailers), body: base64(body), interim: [103] };
      await peer().answer(port, answer);
      const heard = await ask(port, sent.map(([name, text]) => [name, text.replace(/[^!-~]/g, "?")]));
      expect(heard.fields.filter(([name]) => name !== ":status" && name !== "date")).toEqual(sent);
      expect(heard.trailers).toEqual(trailers);
      expect(heard.body.equals(body)).toBe(true);
      const asked = (await peer().asked(port)).at(-1)!;
      for (const [name, text] of sent) expect(asked[name]).toBe(text.replace(/[^!-~]/g, "?"));
    }));
  });

  it("knows each character that a value may have", async () => {
    const text = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join("").replace(/[\u0000-\u0008\u000a-\u001f\u007f]/g, "").trim();
    // Words of 30 bits are too long for its encoder to gain by: many short ones stand beside each.
    const lone = Array.from(text).map((each, at): Field => [`x-${at}`, `${"a".repeat(40)}${each}${"e".repeat(40)}`]);
    for (const part of [lone.slice(0, 100), lone.slice(100)]) {
      const port = await peer().listen({ answer: { headers: Object.fromEntries(part) } });
      const { fields: heard } = await ask(port, []);
      expect(heard.filter(([name]) => name.startsWith("x-"))).toEqual(part);
    }
  });

  it("writes names and statuses by their numbers in the table of RFC 7541", async () => {
    const names = `accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow authorization
      cache-control content-disposition content-encoding content-language content-location content-range content-type cookie etag expect expires
      from if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards proxy-authenticate
      proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security user-agent vary via www-authenticate`;
    const sent = names.split(/\s+/).map((name): Field => [name, `of ${name}`]);
    const port = await peer().listen();
    for (const status of [200, 204, 206, 304, 400, 404, 500]) {
      await peer().answer(port, { status, headers: Object.fromEntries(sent) });
      const { fields: heard } = await ask(port, []);
      expect(Object.fromEntries(heard)).toMatchObject({ ":status": String(status), ...Object.fromEntries(sent) });
    }
  });

  it("has no complaint of our ends", async () => {
    const port = await peer().listen({ answer: { body: base64("x".repeat(500_000)) } });
    for (const health of [HTTP2, { ...HTTP2, body: "never" }, { ...HTTP2, method: "HEAD" as const }, GRPC]) await run(port, health);
    expect(await peer().complaints(port)).toEqual([]);
  });
});

describe("a server that answers with more headers than we take", () => {
  // Node's own client kept memory of such a response: the collection of its session aborted the process.
  it("does not end the process that probes it", async () => {
    const port = await peer().listen({ answer: { headers: Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`x-${at}`, "y"])) } });
    const ended = await promisify(execFile)(process.execPath, [PROBER, String(port), "500"]);
    const reason = "the headers cannot be read: more than 128 header fields";
    expect(ended.stdout).toBe(`http: ${reason}\ngrpc: ${reason}\n`);
  });
});

describe("a server of bytes", () => {
  const settings = encodeFrame(TYPE.settings, 0, 0);

  it("that says anything ends the attempt, and nothing else", async () => {
    const said = fc.array(fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc.tuple(fc.integer({ min: 0, max: 10 }), fc.nat(255), fc.constantFrom(0, 1, 1), fc.uint8Array({ maxLength: 40 }))
        .map(([type, flags, stream, payload]) => encodeFrame(type, flags, stream, payload)),
      fc.constantFrom(settings, encodeFrame(TYPE.headers, FLAG.endHeaders, 1, Buffer.of(0x88))),
    ), { maxLength: 8 });
    let bytes = Buffer.alloc(0);
    const port = await raw((socket) => { socket.end(bytes); });
    const kinds = fc.constantFrom(HTTP2, { ...HTTP2, body: "x" }, GRPC);
    await assertPropertyAsync("http2-servers", fc.asyncProperty(said, fc.boolean(), kinds, async (parts, greets, health) => {
      bytes = Buffer.concat([...(greets ? [settings] : []), ...parts]);
      expect(await run(port, health)).toMatchObject({ conclusive: true, reason: expect.not.stringMatching("^timeout|^$") as string });
    }));
  });

  it("that floods and never reads is let go at the bound", async () => {
    const pings = Buffer.concat(Array.from({ length: 40_000 }, () => encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(8))));
    const port = await raw((socket) => { socket.pause(); socket.write(Buffer.concat([settings, pings])); });
    expect((await run(port, HTTP2)).reason).toBe("the server said more than 262144 bytes");
  });

  it("hears a farewell, with the code of what it did", async () => {
    let heard = "";
    const port = await raw((socket) => {
      socket.on("data", (piece: Buffer) => { heard += piece.toString("hex"); });
      socket.write(Buffer.concat([settings, encodeFrame(TYPE.data, 0, 1, Buffer.of(1))]));
    });
    expect((await run(port, HTTP2)).reason).toBe("broken HTTP/2: a body without a response");
    await expect.poll(() => heard).toMatch(new RegExp(`${encodeFrame(TYPE.goaway, 0, 0, numbered(0, 1)).toString("hex")}$`));
  });

  it("that is no longer waited for hears that its work is in vain", async () => {
    let heard = "";
    const port = await raw((socket) => {
      socket.on("data", (piece: Buffer) => { heard += piece.toString("hex"); });
      socket.write(settings);
    });
    const stop = new AbortController();
    const outcome = run(port, HTTP2, "127.0.0.1", stop.signal);
    await expect.poll(() => heard).toContain(encodeFrame(TYPE.settings, FLAG.ack, 0).toString("hex"));
    stop.abort();
    expect(await outcome).toMatchObject({ conclusive: false, reason: "cancelled" });
    const farewell = Buffer.concat([encodeFrame(TYPE.resetStream, 0, 1, numbered(8)), encodeFrame(TYPE.goaway, 0, 0, numbered(0, 0))]);
    await expect.poll(() => heard).toMatch(new RegExp(`${farewell.toString("hex")}$`));
  });
});
