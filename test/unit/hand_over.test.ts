// A new process takes over from the running one, under traffic: real processes, sockets and signals. Needs
// the build.

import { describe, expect, it } from "vitest";
import { ConnectStream, HandOverWorld, HeldConnection, renewAfterEach } from "../support/hand_over_world.ts";

let world = new HandOverWorld();

renewAfterEach(() => world, (fresh) => { world = fresh; });

const LONG_MS = 120_000;

function yaml(services: readonly string[], more = "", dataplane = "mode: proxy"): string {
  return `version: 1
dataplane: { ${dataplane} }
observe: { listen: none }
${more}services:
${services.map((each) => `  - ${each}`).join("\n")}
`;
}

/** The backend is of IPv4 in any case, which the proxy does not mind. */
function tcp(name: string, host: string, ports: string, backend: number): string {
  return `{ name: ${name}, address: "${host}", port: ${ports}, protocol: tcp, forwarding: fullnat, health: { type: none },`
    + ` backends: [{ name: a, address: 127.0.0.2, port: ${backend} }] }`;
}

interface Served { readonly ports: readonly number[]; readonly services: readonly string[] }

/** Three ports of IPv4 and one of IPv6 in front of an echo. */
async function serve(): Promise<Served> {
  const echo = await world.echo("127.0.0.2");
  const from = await world.freePorts("127.0.0.1", 3);
  const port6 = await world.freePorts("::1", 1);
  const services = [tcp("web", "127.0.0.1", `${from}-${from + 2}`, echo), tcp("web6", "::1", String(port6), echo)];
  world.write(yaml(services));
  return { ports: [from, from + 1, from + 2, port6], services };
}

describe("a hand-over", () => {
  it("refuses and breaks no connection, three times in a row, and resets at the deadline what is left", async () => {
    const { ports } = await serve();
    const first = await world.start();
    const streams = [new ConnectStream("127.0.0.1", ports.slice(0, 3), 6), new ConnectStream("::1", ports.slice(3), 2)];
    const held = Array.from({ length: 20 }, (_, index) =>
      new HeldConnection(index % 4 === 3 ? "::1" : "127.0.0.1", ports[index % 4]!));
    await Promise.all(held.map((each) => each.goesOn()));
    const pids = [first];
    for (let n = 0; n < 3; n += 1) {
      const { status, stdout, stderr } = await world.ask("upgrade", "--drain", "1h", "-o", "json");
      expect([status, stderr]).toEqual([0, ""]);
      const { from, to } = JSON.parse(stdout) as { from: { pid: number }; to: { pid: number } };
      expect(from.pid).toBe(pids.at(-1));
      pids.push(to.pid);
      expect(world.lockOwner()).toBe(to.pid);
      await Promise.all([...held.map((each) => each.goesOn()), ...streams.map((each) => each.goesOn(50))]);
      held.push(new HeldConnection("127.0.0.1", ports[n]!));
      await held.at(-1)!.goesOn();
    }
    expect(new Set(pids).size).toBe(4);
    expect((await world.status())["pid"]).toBe(pids[3]);
    // Of the last but one: reset at its deadline, while those of all the others go on.
    const last = held.pop()!;
    await last.fallSilent();
    expect((await world.ask("upgrade", "--drain", "300ms")).status).toBe(0);
    await last.closed;
    expect(last.error).toBe("ECONNRESET");
    await Promise.all([...held.map((each) => each.goesOn()), ...streams.map((each) => each.goesOn(50))]);
    await Promise.all([...held, ...streams].map((each) => each.stop()));
    expect(held.map(({ error }) => error).filter((error) => error !== null)).toEqual([]);
    expect(streams.flatMap(({ failures }) => failures)).toEqual([]);
    world.signal("SIGTERM");
    expect(await world.ended).toBe(0);
  }, LONG_MS);

  it("is undone when the new process fails at once, or after it had the sockets, and can be tried again", async () => {
    const { ports, services } = await serve();
    const first = await world.start();
    const stream = new ConnectStream("127.0.0.1", ports.slice(0, 3), 6);
    const held = new HeldConnection("127.0.0.1", ports[0]!);
    await held.goesOn();
    const failing: readonly (readonly [string, string])[] = [
      ["services: 7", "CONFIG_INVALID"],
      [yaml(services, "instance: other\n"), "instance other"],
      [yaml(services, "control: { group: no-such-group-here }\n"), "no-such-group-here"],
      [yaml(services.slice(0, 1), "", "mode: xdp, interfaces: [lo]"), "the file asks for the XDP plane"],
    ];
    for (const [text, why] of failing) {
      world.write(text);
      const { status, stderr } = await world.ask("upgrade");
      const said = `${stderr}${world.text}`;
      expect([status, said.includes(why)], said).toEqual([1, true]);
      await Promise.all([stream.goesOn(50), held.goesOn()]);
      expect(world.lockOwner()).toBe(first);
    }
    // It takes changes again.
    expect((await world.ask("drain", "web6/a")).status).toBe(0);
    expect((await world.status())["pid"]).toBe(first);
    world.write(yaml(services));
    expect((await world.ask("upgrade")).status).toBe(0);
    await Promise.all([stream.goesOn(50), held.goesOn()]);
    await Promise.all([stream.stop(), held.stop()]);
    expect([stream.failures, held.error]).toEqual([[], null]);
  }, LONG_MS);

  it("leaves connections that the next processes count, wait for and reset as their own", async () => {
    const { ports } = await serve();
    await world.start();
    const held = Array.from({ length: 5 }, () => new HeldConnection("127.0.0.1", ports[0]!));
    await Promise.all(held.map((each) => each.goesOn()));
    const flows = async (): Promise<unknown> => {
      const { backends, services } = await world.status() as Record<"backends" | "services", { name: string; flows: unknown }[]>;
      return [...backends, ...services].filter(({ flows: each }) => (each as { count: number }).count > 0).map((each) => [each.name, each.flows]);
    };
    for (const count of [5, 6]) { // of the first process, and then of the first two
      expect((await world.ask("upgrade", "--drain", "1h")).status).toBe(0);
      expect(await flows()).toEqual([["web/a", { count, kind: "exact" }], ["web", { count, kind: "exact" }]]);
      held.push(new HeldConnection("127.0.0.1", ports[0]!));
      await held.at(-1)!.goesOn();
    }
    // All but one end by themselves; the one of the first process has to be reset.
    const drained = world.ask("drain", "web/a", "--timeout", "6s", "--wait");
    const [last, ...others] = held as [HeldConnection, ...HeldConnection[]];
    await last.fallSilent();
    await Promise.all(others.map((each) => each.stop()));
    await last.closed;
    expect([last.error, ...others.map(({ error }) => error)]).toEqual(["ECONNRESET", ...others.map(() => null)]);
    const { status, stdout, stderr } = await drained;
    expect([status, stdout.includes("1 flow(s) (exact) are reset")], `${stdout}${stderr}`).toEqual([0, true]);
    // The end of its last flow is that of a drain, in whichever process it is.
    expect((await world.ask("undrain", "web/a")).status).toBe(0);
    const other = new HeldConnection("127.0.0.1", ports[0]!);
    await other.goesOn();
    expect((await world.ask("upgrade", "--drain", "1h")).status).toBe(0);
    const waiting = world.ask("drain", "web/a", "--wait");
    await expect.poll(async () => (await world.ask("overrides")).stdout, { timeout: 20_000 }).toContain("web/a");
    await other.stop();
    expect([(await waiting).status, other.error]).toEqual([0, null]);
  }, LONG_MS);

  it("goes on alone when the old process is killed in the middle", async () => {
    const { ports } = await serve();
    const first = await world.start();
    const stream = new ConnectStream("127.0.0.1", ports.slice(0, 3), 6);
    await stream.goesOn(50);
    world.signal("SIGUSR2");
    // The new process has a socket, and asks for the next one.
    const { pid } = await world.until((line) => line["pid"] !== first && line["msg"] === "the proxy listens");
    world.signal("SIGKILL");
    await world.until((line) => line["pid"] === pid && line["msg"] === "running");
    const before = stream.failures.length;
    await stream.goesOn(200);
    await stream.stop();
    expect(stream.failures.slice(before)).toEqual([]);
    expect((await world.status())["pid"]).toBe(pid);
    expect(world.lockOwner()).toBe(pid);
  }, LONG_MS);
});
