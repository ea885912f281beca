// Probes of servers that others wrote, well and unwell: what nginx, Redis, PostgreSQL, MariaDB, dnsmasq and Exim
// say themselves, and not what we think that they say. On the loopback, with the real Env.

import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import type {
  DnsHealth, Health, HttpHealth, MysqlHealth, PostgresHealth, ProbeTls, RedisHealth, SmtpHealth, TlsHealth,
} from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { freePort, run, TIMING, TLS } from "../support/probe_world.ts";
import { describeServer, ServerProcess } from "../support/server_process.ts";

const LOOPBACKS = ["127.0.0.1", "::1"] as const;
const DAY_MS = 86_400_000;

/** Until the probe says so, for servers that take a moment to become what they are. */
async function becomes(port: number, health: Health, reason: RegExp): Promise<void> {
  await expect.poll(async () => (await run(port, health)).reason, { timeout: 60_000, interval: 50 }).toMatch(reason);
}

describeServer("nginx", "nginx", () => {
  const server = new ServerProcess("nginx");
  let [http, http2, https, expired] = [0, 0, 0, 0];
  const HTTP: HttpHealth = {
    type: "http", version: 1, method: "GET", path: "/", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
    body: null, bodyMatches: null, json: [], drainHeader: null, tls: null, ...TIMING,
  };
  const tls = (wish: Partial<ProbeTls>): TlsHealth => ({ type: "tls", ...TIMING, tls: { ...TLS, ...wish } });
  beforeAll(async () => {
    [http, http2, https, expired] = [await freePort(), await freePort(), await freePort(), await freePort()];
    for (const [name, from, to] of [["good", -1, 30.5], ["late", -9, -1.5]] as const) {
      const { key, cert } = createCertificate("web.example", new Date(Date.now() + from * DAY_MS), new Date(Date.now() + to * DAY_MS));
      writeFileSync(server.path(`${name}.key`), key);
      writeFileSync(server.path(`${name}.pem`), cert);
    }
    const listen = (port: number, how: string): string => `listen 127.0.0.1:${port} ${how}; listen [::1]:${port} ${how};`;
    const certificate = (name: string): string => `ssl_certificate ${server.path(`${name}.pem`)}; ssl_certificate_key ${server.path(`${name}.key`)};`;
    const say = `location / { default_type application/json; return 200 '{"status":"up","checks":{"database":"ok"}}'; }
      location /secret { if ($http_authorization != "Bearer 1234") { return 401; } return 204; }
      location /ill { return 503; }`;
    writeFileSync(server.path("nginx.conf"), `daemon off; pid ${server.path("pid")}; error_log stderr; worker_processes 1;
      events { worker_connections 64; }
      http { access_log off; ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${server.path(name)};`).join(" ")}
        server { ${listen(http, "")} ${say} } server { ${listen(http2, "http2")} ${say} }
        server { ${listen(https, "ssl http2")} ${certificate("good")} ${say} } server { ${listen(expired, "ssl")} ${certificate("late")} ${say} } }`);
    await server.start(http, "nginx", "-c", server.path("nginx.conf"), "-p", server.directory);
  });
  afterAll(async () => { await server.close(); });

  it.each(LOOPBACKS)("answers by HTTP/1.1 and HTTP/2, in the clear and over TLS, at %s", async (host) => {
    const wish: Partial<HttpHealth> = { json: [{ path: "checks.database", value: "ok" }], bodyMatches: '"status":"(up|ready)"' };
    for (const [port, change] of [
      [http, {}], [http2, { version: 2 }], [https, { version: 2, tls: TLS }], [https, { tls: TLS }],
    ] as [number, Partial<HttpHealth>][]) {
      expect(await run(port, { ...HTTP, ...wish, ...change }, host)).toMatchObject({ ok: true, reason: "status 200, body matches" });
      expect((await run(port, { ...HTTP, ...change, path: "/ill" }, host)).reason).toBe("status 503, expected 200-299");
    }
  });

  it("reads a token that stays in its file", async () => {
    const path = server.path("token");
    writeFileSync(path, "Bearer 1234\n");
    const health: HttpHealth = { ...HTTP, path: "/secret", headers: [{ name: "Authorization", value: { from: "file", path } }] };
    expect((await run(http, health)).reason).toBe("status 204");
    writeFileSync(path, "Bearer 4321\n");
    expect((await run(http, health)).reason).toBe("status 401, expected 200-299");
    expect((await run(http2, { ...health, version: 2 })).reason).toBe("status 401, expected 200-299");
  });

  it("speaks no HTTP/2 where it was not told to", async () => {
    expect((await run(http, { ...HTTP, version: 2 })).reason).toMatch(/^not an HTTP\/2 server/);
    expect((await run(expired, { ...HTTP, version: 2, tls: TLS })).ok).toBe(false);
  });

  it.each(LOOPBACKS)("shows its certificates at %s", async (host) => {
    const trusted = { verify: true, serverName: "web.example", ca: server.path("good.pem") };
    expect((await run(https, tls(trusted), host)).reason).toMatch(/^TLSv1\.[23], the certificate ends on .*, in 30 days$/);
    expect((await run(https, tls({ ...trusted, serverName: "other.example" }), host)).reason).toMatch(/^the certificate is for another name/);
    expect((await run(https, tls({ ...trusted, failDays: 31 }), host)).reason).toMatch(/in 30 days$/);
    expect((await run(https, tls({ ...trusted, ca: server.path("late.pem") }), host)).ok).toBe(false);
    expect((await run(expired, tls({ ...trusted, ca: server.path("late.pem") }), host)).reason).toBe("the certificate has expired (CERT_HAS_EXPIRED)");
    expect((await run(http, tls({}), host)).reason).toBe("not a TLS server");
  });
});

describeServer("Redis", "redis-server", () => {
  const [master, replica, loading] = [new ServerProcess("redis"), new ServerProcess("redis"), new ServerProcess("redis")];
  let [masterPort, replicaPort, loadingPort] = [0, 0, 0];
  const REDIS: RedisHealth = { type: "redis", username: null, password: null, role: "any", tls: null, ...TIMING };
  const args = (port: number): string[] => ["--port", String(port), "--bind", "127.0.0.1", "::1", "--save", "", "--appendonly", "no"];
  beforeAll(async () => {
    [masterPort, replicaPort, loadingPort] = [await freePort(), await freePort(), await freePort()];
    await master.start(masterPort, "redis-server", ...args(masterPort), "--requirepass", "se cret", "--masterauth", "se cret");
    const nobody = await freePort();
    await replica.start(replicaPort, "redis-server", ...args(replicaPort), "--replicaof", "127.0.0.1", String(nobody), "--replica-serve-stale-data", "no");
  });
  afterAll(async () => { for (const each of [master, replica, loading]) await each.close(); });

  it.each(LOOPBACKS)("is PINGed with its password at %s, and not without", async (host) => {
    const [right, wrong] = [master.path("right"), master.path("wrong")];
    writeFileSync(right, "se cret\n");
    writeFileSync(wrong, "hunter2\n");
    expect((await run(masterPort, REDIS, host)).reason).toMatch(/^the server answered -NOAUTH /);
    const health: RedisHealth = { ...REDIS, password: { from: "file", path: right }, role: "master" };
    expect(await run(masterPort, health, host)).toMatchObject({ ok: true, reason: "PONG, master" });
    expect(await run(masterPort, { ...health, username: "default" }, host)).toMatchObject({ ok: true });
    expect((await run(masterPort, { ...health, password: { from: "file", path: wrong } }, host)).reason).toMatch(/^the server answered -WRONGPASS to AUTH$/);
    expect((await run(masterPort, { ...health, role: "replica" }, host)).reason).toBe("the server's role is master, expected replica");
  });

  it("without its master is down", async () => {
    expect((await run(replicaPort, REDIS)).reason).toMatch(/^the server answered -MASTERDOWN /);
  });

  it("that loads its data is down until it has", async () => {
    const settings = [...args(loadingPort), "--save", "60 1000000"];
    await loading.start(loadingPort, "redis-server", ...settings, "--enable-debug-command", "yes");
    loading.prepare("redis-cli", "-p", String(loadingPort), "DEBUG", "POPULATE", "3000");
    loading.prepare("redis-cli", "-p", String(loadingPort), "SAVE");
    await loading.stop();
    await loading.start(loadingPort, "redis-server", ...settings, "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024");
    expect((await run(loadingPort, REDIS)).reason).toBe("the server answered -LOADING Redis is loading the dataset in memory");
    await becomes(loadingPort, REDIS, /^PONG$/);
  });
});

describeServer("PostgreSQL", "pg_ctlcluster", () => {
  const server = new ServerProcess("postgres", "postgres");
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  const bin = `/usr/lib/postgresql/${versions.sort((a, b) => Number(b) - Number(a))[0] ?? ""}/bin`;
  let port = 0;
  const POSTGRES: PostgresHealth = { type: "postgres", user: "postgres", database: null, tls: null, ...TIMING };
  const start = (...settings: readonly string[]): Promise<void> => server.start(port, `${bin}/postgres`, "-D", server.path("data"),
    "-p", String(port), "-k", server.directory, ...["listen_addresses=127.0.0.1,::1", ...settings].flatMap((each) => ["-c", each]));
  beforeAll(async () => {
    port = await freePort();
    server.prepare(`${bin}/initdb`, "-D", server.path("data"), "--auth=scram-sha-256", "--no-sync", "-U", "postgres", "--pwfile=/etc/hostname");
    const { key, cert } = createCertificate("db.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 9 * DAY_MS));
    writeFileSync(server.path("data/server.crt"), cert);
    server.prepare("sh", "-c", `umask 077 && cat >data/server.key <<'END'\n${key}END`);
    await start("ssl=on");
  });
  afterAll(async () => { await server.close(); });

  it.each(LOOPBACKS)("asks for SASL at %s, in the clear and over TLS", async (host) => {
    await becomes(port, POSTGRES, /^the server asks for SASL$/);
    expect(await run(port, POSTGRES, host)).toMatchObject({ ok: true });
    const secure = await run(port, { ...POSTGRES, tls: TLS }, host);
    expect(secure).toMatchObject({ ok: true, reason: "the server asks for SASL" });
    expect(secure.certificate?.endsAtMs).toBeGreaterThan(Date.now());
    expect((await run(port, { ...POSTGRES, tls: { ...TLS, verify: true } }, host)).reason).toMatch(/^the certificate is self-signed/);
  });

  it("is up where we may not come in, and down where it lets nobody in", async () => {
    await server.stop("SIGINT");
    writeFileSync(server.path("data/pg_hba.conf"), "local all all trust\n");
    await start("ssl=off");
    await becomes(port, POSTGRES, /^the server answers, and refuses us: FATAL 28000: no pg_hba.conf entry /);
    expect((await run(port, { ...POSTGRES, tls: TLS })).reason).toBe("the server offers no TLS");
    await server.stop("SIGINT");
    // A standby that has no primary to follow lets nobody in for ever.
    writeFileSync(server.path("data/pg_hba.conf"), "host all all all trust\n");
    writeFileSync(server.path("data/standby.signal"), "");
    await start("hot_standby=off");
    const outcome = await run(port, POSTGRES);
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).toMatch(/^the server answered FATAL 57P03: the database system is /);
  });
});

describeServer("MariaDB", "mariadbd", () => {
  const server = new ServerProcess("mariadb", "mysql");
  let port = 0;
  const MYSQL: MysqlHealth = { type: "mysql", user: null, ...TIMING };
  const held: Socket[] = [];
  beforeAll(async () => {
    port = await freePort();
    const common = ["--no-defaults", `--datadir=${server.path("data")}`];
    server.prepare("mariadb-install-db", ...common, "--auth-root-authentication-method=normal", "--skip-test-db");
    writeFileSync(server.path("users.sql"), "CREATE USER 'probe'@'%';\nCREATE USER 'locked'@'%' IDENTIFIED BY 'x';\n");
    await server.start(port, "mariadbd", ...common, `--port=${port}`, "--bind-address=127.0.0.1,::1", `--socket=${server.path("socket")}`,
      "--max-connections=10", "--skip-name-resolve", `--init-file=${server.path("users.sql")}`, `--pid-file=${server.path("pid")}`);
  });
  afterAll(async () => {
    for (const socket of held) socket.destroy();
    await server.close();
  });

  it.each(LOOPBACKS)("greets us and lets us in at %s, or not", async (host) => {
    expect((await run(port, MYSQL, host)).reason).toMatch(/^version (5\.5\.5-)?1\d\.\d+\.\d+-MariaDB/);
    expect(await run(port, { ...MYSQL, user: "probe" }, host)).toMatchObject({ ok: true, reason: expect.stringMatching(/, logged in$/) as string });
    expect((await run(port, { ...MYSQL, user: "locked" }, host)).reason).toMatch(/^the server answered 1045: Access denied for user 'locked'/);
  });

  it("with too many connections is down", async () => {
    for (let at = 0; at < 11; at += 1) held.push(connect({ host: "127.0.0.1", port }).on("error", () => { /* refused, perhaps */ }));
    await becomes(port, MYSQL, /^the server answered 1040: Too many connections$/);
  });
});

describeServer("dnsmasq", "dnsmasq", () => {
  const server = new ServerProcess("dnsmasq");
  let port = 0;
  const DNS: DnsHealth = { type: "dns", name: "www.example", recordType: "A", rcode: "NOERROR", answer: null, transport: "udp", ...TIMING };
  beforeAll(async () => {
    port = await freePort();
    const long = Array.from({ length: 12 }, (_, at) => `${at}-${"x".repeat(240)}`).join(",");
    await server.start(port, "dnsmasq", "--no-daemon", `--port=${port}`, "--listen-address=127.0.0.1", "--listen-address=::1", "--bind-interfaces",
      "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=", `--pid-file=${server.path("pid")}`, "--local=/example/",
      "--host-record=www.example,192.0.2.7,2001:db8::7", `--txt-record=long.example,${long}`);
  });
  afterAll(async () => { await server.close(); });

  it.each(LOOPBACKS)("answers at %s, by UDP and TCP", async (host) => {
    expect(await run(port, { ...DNS, answer: "192.0.2.7" }, host)).toMatchObject({ ok: true, reason: "NOERROR, 1 answer" });
    expect(await run(port, { ...DNS, recordType: "AAAA", answer: "2001:db8::7", transport: "tcp" }, host)).toMatchObject({ ok: true });
    expect((await run(port, { ...DNS, name: "nobody.example" }, host)).reason).toBe("the server answered NXDOMAIN, expected NOERROR");
    expect(await run(port, { ...DNS, name: "nobody.example", rcode: "NXDOMAIN" }, host)).toMatchObject({ ok: true });
    expect((await run(port, { ...DNS, name: "elsewhere.test" }, host)).reason).toBe("the server answered REFUSED, expected NOERROR");
  });

  it("cuts a long answer short, and is asked again by TCP", async () => {
    const health: DnsHealth = { ...DNS, name: "long.example", recordType: "TXT" };
    expect(await run(port, health)).toMatchObject({ ok: true, reason: "NOERROR, 1 answer" });
  });
});

describeServer("Exim", "exim4", () => {
  const server = new ServerProcess("exim", "Debian-exim");
  let port = 0;
  const SMTP: SmtpHealth = { type: "smtp", helloName: "lb.example", tls: null, ...TIMING };
  const held: Socket[] = [];
  beforeAll(async () => {
    port = await freePort();
    writeFileSync(server.path("conf"), `primary_hostname = mail.example\ndaemon_smtp_ports = ${port}\nlocal_interfaces = <; 127.0.0.1 ; ::1
spool_directory = ${server.directory}\nlog_file_path = ${server.path("%slog")}\npid_file_path = ${server.path("pid")}
keep_environment =\ntls_advertise_hosts =\nrfc1413_query_timeout = 0s\nsmtp_accept_max = 2\nbegin routers\n`);
    await server.start(port, "exim4", "-C", server.path("conf"), "-bdf");
  });
  afterAll(async () => {
    for (const socket of held) socket.destroy();
    await server.close();
  });

  it.each(LOOPBACKS)("is greeted and left at %s", async (host) => {
    await expect.poll(async () => await run(port, SMTP, host), { timeout: 30_000 })
      .toMatchObject({ ok: true, reason: expect.stringMatching(/^220 mail\.example ESMTP Exim/) as string });
  });

  it("that has too many connections is down", async () => {
    for (let at = 0; at < 3; at += 1) held.push(connect({ host: "127.0.0.1", port }).on("error", () => { /* refused, perhaps */ }));
    await becomes(port, SMTP, /^the server answered 421 /);
  });
});
