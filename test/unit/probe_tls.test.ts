// Probes that ask for a TLS handshake, of servers on the loopback whose certificates are good, late, about to
// end or no certificates at all; and who hears of those that end soon.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { statusSchema } from "../../src/api/schemas.ts";
import { certificatesSeen, watchOutcomes } from "../../src/health/outcome_watch.ts";
import type { Certificate } from "../../src/health/judge.ts";
import type { Probe } from "../../src/health/schedule.ts";
import type { ProbeTls, TlsHealth } from "../../src/model/health_check.ts";
import { createCertificate, type TestCertificate } from "../support/certificate.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { freePort, listen, raw, run, say, TIMING, TLS } from "../support/probe_world.ts";
import { World } from "../support/world.ts";

const DAY_MS = 86_400_000;

function tls(wish: Partial<ProbeTls> = {}, timeoutMs = 5000): TlsHealth {
  return { type: "tls", ...TIMING, timeoutMs, tls: { ...TLS, ...wish } };
}

function certificate(fromDays: number, toDays: number): TestCertificate {
  return createCertificate("web.example", new Date(Date.now() + fromDays * DAY_MS), new Date(Date.now() + toDays * DAY_MS));
}

function serve(shown: TestCertificate, host?: string, onSecure: (socket: TLSSocket) => void = () => {}): Promise<number> {
  const server = createServer(shown, onSecure);
  server.on("tlsClientError", () => { /* probes may not trust it */ });
  return listen(server, host);
}

describe("a TLS handshake", () => {
  let directory = "";
  const written = (name: string, text: string): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  };
  beforeAll(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-ca-")); });
  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  it.each(["127.0.0.1", "::1"])("succeeds at %s with version and end of the certificate", async (host) => {
    const port = await serve(certificate(-1, 40.5), host);
    const outcome = await run(port, tls(), host);
    expect(outcome).toMatchObject({ ok: true, conclusive: true });
    expect(outcome.reason).toMatch(/^TLSv1\.3, the certificate ends on \d{4}-\d\d-\d\d, in 40 days$/);
    expect(outcome.certificate).toMatchObject({ isDue: false });
    expect(Math.abs((outcome.certificate?.endsAtMs ?? 0) - (Date.now() + 40.5 * DAY_MS))).toBeLessThan(60_000);
  });

  it("asks for the name, and sends nothing", async () => {
    let name: unknown = null;
    let said = 0;
    const port = await serve(certificate(-1, 40), undefined, (socket) => {
      name = socket.servername;
      socket.on("data", (bytes: Buffer) => { said += bytes.length; });
    });
    expect(await run(port, tls({ serverName: "web.example" }))).toMatchObject({ ok: true });
    await expect.poll(() => name).toBe("web.example");
    expect(said).toBe(0);
  });

  it("is content with a server that hangs up right after it", async () => {
    const port = await serve(certificate(-1, 40), undefined, (socket) => { socket.end(); });
    for (let round = 0; round < 10; round += 1) expect(await run(port, tls())).toMatchObject({ ok: true });
  });

  it("trusts the issuers of a file, and says which file is missing or holds none", async () => {
    const shown = certificate(-1, 40);
    const port = await serve(shown);
    const wish = { verify: true, serverName: "web.example" };
    expect(await run(port, tls({ ...wish, ca: written("right.pem", shown.cert) }))).toMatchObject({ ok: true });
    const stranger = await run(port, tls({ ...wish, ca: written("other.pem", certificate(-1, 40).cert) }));
    expect(stranger).toMatchObject({ ok: false, conclusive: true, reason: expect.stringContaining("the certificate") as string });
    const missing = join(directory, "missing.pem");
    expect(await run(port, tls({ ...wish, ca: missing }))).toMatchObject(
      { ok: false, conclusive: false, reason: `there is no file ${missing}` });
    // A directory can be opened, and not read.
    expect(await run(port, tls({ ...wish, ca: directory }))).toMatchObject(
      { ok: false, conclusive: false, reason: expect.stringMatching(/cannot be read: .*(EISDIR|no regular file)/) as string });
    const garbage = written("garbage.pem", "nothing");
    expect(await run(port, tls({ ...wish, ca: garbage }))).toMatchObject(
      { ok: false, conclusive: false, reason: `${garbage} (ca) holds no certificate in PEM` });
  });

  it("names what is wrong with a certificate, and has its end all the same", async () => {
    const port = await serve(certificate(-9, -2));
    const expired = await run(port, tls({ verify: true, serverName: "web.example", ca: null }));
    expect(expired).toMatchObject({ ok: false, conclusive: true });
    expect(expired.certificate?.endsAtMs).toBeLessThan(Date.now());
    const late = certificate(-9, -2);
    const path = written("late.pem", late.cert);
    expect((await run(await serve(late), tls({ verify: true, serverName: "web.example", ca: path }))).reason)
      .toBe("the certificate has expired (CERT_HAS_EXPIRED)");
    const early = certificate(2, 9);
    expect((await run(await serve(early), tls({ verify: true, ca: written("early.pem", early.cert) }))).reason)
      .toBe("the certificate is not valid yet (CERT_NOT_YET_VALID)");
    const good = certificate(-2, 9);
    const other = tls({ verify: true, serverName: "other.example", ca: written("good.pem", good.cert) });
    expect((await run(await serve(good), other)).reason)
      .toBe("the certificate is for another name (DNS:web.example) (ERR_TLS_CERT_ALTNAME_INVALID)");
  });

  it("fails by days left where that is wished, and warns by others", async () => {
    const port = await serve(certificate(-1, 10.5));
    const due = await run(port, tls({ warnDays: 14, failDays: 7 }));
    expect(due).toMatchObject({ ok: true, certificate: { isDue: true } });
    expect((await run(port, tls({ warnDays: 10, failDays: 7 }))).certificate).toMatchObject({ isDue: false });
    const failed = await run(port, tls({ failDays: 11 }));
    expect(failed).toMatchObject({ ok: false, conclusive: true });
    expect(failed.reason).toMatch(/^the certificate ends on \d{4}-\d\d-\d\d, in 10 days$/);
    const gone = await run(await serve(certificate(-9, -1.5)), tls({ failDays: 0 }));
    expect(gone.reason).toMatch(/^the certificate ended on \d{4}-\d\d-\d\d, 1 day ago$/);
  });

  it("fails with a reason when refused, silent, plain, cut or garbage", async () => {
    expect(await run(await freePort(), tls())).toMatchObject({ ok: false, conclusive: true, reason: "connection refused" });
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, tls({}, 400))).reason).toBe("timeout after 400 ms while shaking hands");
    const plain = await raw((socket) => { socket.write("220 mail.example ESMTP\r\n"); });
    expect((await run(plain, tls())).reason).toBe("not a TLS server");
    const cut = await raw((socket) => { socket.once("data", () => { socket.end(); }); });
    expect((await run(cut, tls())).reason).toBe("connection closed during the TLS handshake");
    const half = await raw((socket) => { socket.once("data", () => { socket.end(Buffer.from("1603030040", "hex")); }); });
    expect((await run(half, tls())).ok).toBe(false);
    const alert = await raw((socket) => { socket.once("data", () => { socket.end(Buffer.from("15030300020228", "hex")); }); });
    expect((await run(alert, tls())).reason).toMatch(/^TLS handshake failed: .*handshake failure/);
    const slow = await raw((socket) => { void say(socket, Buffer.from("16030300400200003c0303", "hex"), true); });
    expect((await run(slow, tls({}, 400))).reason).toBe("timeout after 400 ms while shaking hands");
  });
});

describe("those who hear of certificates", () => {
  const target = { name: "web/a", through: [] } as unknown as Parameters<Probe>[0];
  const showing = (certificate: Certificate | undefined): Probe => async () => ({
    ok: true, conclusive: true, reason: "TLSv1.3", durationMs: 1, ...(certificate === undefined ? {} : { certificate }),
  });

  it("are warned once a day, and of others not at all", async () => {
    const world = createFakeEnv();
    const endsAtMs = world.clock.wallMs() + 3.5 * DAY_MS;
    let shown: Certificate | undefined = { endsAtMs, isDue: true };
    const probe = watchOutcomes((...args) => showing(shown)(...args), world);
    const look = (): ReturnType<Probe> => probe(target, new AbortController().signal);
    expect(await look()).toMatchObject({ certificate: { endsAtMs } });
    await look();
    expect(world.messages("warn")).toEqual(["web/a: the certificate ends on 2026-01-04, in 3 days"]);
    await world.advance(DAY_MS);
    await look();
    expect(world.messages("warn").at(-1)).toBe("web/a: the certificate ends on 2026-01-04, in 2 days");
    shown = { endsAtMs: endsAtMs + 90 * DAY_MS, isDue: false };
    await look();
    shown = undefined;
    await look();
    expect(world.messages("warn")).toHaveLength(2);
  });

  it("find the last that was shown, also behind failures without one", () => {
    const outcome = { ok: false, conclusive: true, reason: "timeout", durationMs: 1, atMs: 1 };
    const records = new Map([
      ["web/a", [{ ...outcome, certificate: { endsAtMs: 1, isDue: false } }, { ...outcome, certificate: { endsAtMs: 2, isDue: false } }, outcome]],
      ["web/b", [outcome]],
    ]);
    const seen = certificatesSeen({ states: () => new Map([...records.keys()].map((name) => [name, {} as never])),
      records: (name) => records.get(name) ?? [] });
    expect([...seen]).toEqual([["web/a", { endsAtMs: 2, isDue: false }]]);
  });

  it("read of it in the status", async () => {
    const world = new World();
    world.certificate = { endsAtMs: world.env.clock.wallMs() + 3.5 * DAY_MS, isDue: true };
    const supervisor = await world.start({ probes: true, pools: { web: ["a"] }, services: [{ name: "web" }] });
    expect(supervisor.status().backends[0]?.certificateEndsAtMs).toBeNull();
    await world.pass(5000);
    const status = statusSchema.parse(supervisor.status());
    expect(status.backends[0]?.certificateEndsAtMs).toBe(world.certificate.endsAtMs);
    expect(status.warnings).toContainEqual("web/a: the certificate ends on 2026-01-04, in 3 days");
  });

  it("are told of probes that say nothing, once for each reason in an hour", async () => {
    const world = createFakeEnv();
    let outcome = { ok: false, conclusive: false, reason: "there is no file /etc/token", durationMs: 1 };
    const probe = watchOutcomes(() => Promise.resolve(outcome), world);
    const look = (name: string, through: readonly object[] = [], signal = new AbortController().signal): Promise<unknown> =>
      probe({ name, through } as unknown as Parameters<Probe>[0], signal);
    const cancelled = new AbortController();
    cancelled.abort();
    await look("web/c", [], cancelled.signal);
    await look("web/c", [{}]);
    expect(world.messages()).toEqual([]);
    for (const name of ["web/a", "web/a", "web/b"]) await look(name);
    expect(world.messages("warn")).toEqual(["web/a: its health probe says nothing, and perhaps not those of others either: there is no file /etc/token"]);
    await world.advance(3_600_000);
    await look("web/b");
    expect(world.messages("warn")).toHaveLength(2);
    outcome = { ...outcome, conclusive: true, reason: "connection refused" };
    await look("web/b");
    expect(world.messages()).toHaveLength(2);
  });
});
