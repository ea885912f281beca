// How the addon's objects end: closed, collected, with their thread or with their process; and the
// grace period. Most of it runs in a node of its own, since a crash is what is looked for.

import { chmodSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  NEEDS, actionOf, addon, createMap, filesDirectory, fromU32, loadFixture, outcome, removeFiles,
  runScript, script, u32,
} from "./fixtures/native_fixture.ts";

/** Runs a script that must end well, and say this and nothing else. */
function expectScript(body: string, output: string, through: readonly string[] = []): void {
  expect(runScript(body, through)).toEqual({ status: 0, signal: null, stdout: output, stderr: "" });
}

/** The script has a network namespace of its own, where interface 1 is a loopback. */
const OWN_NETWORK = ["unshare", "--net"];

/** One of everything, opened and never closed. */
const OPEN_ALL = `
  const object = loadObject();
  const map = object.map("shared");
  const memory = map.mmap();
  const events = native.RingBuffer.open(object.map("events"));
  const socket = native.NetlinkSocket.open(0, 1);
  socket.onReadable(() => {});
`;

const LIFE_NEEDS = [...NEEDS, "tool:setpriv", "tool:unshare"] as const;

describeKernel("the life of the addon's objects", LIFE_NEEDS, () => {
  afterAll(() => {
    deleteOwn();
    removeFiles();
  });

  describe("close", testClose);
  describe("garbage", testGarbage);
  describe("threads", testThreads);
  describe("processes", testProcesses);
  describe("callbacks", testCallbacks);
  describe("grace period", testGracePeriod);
});

function testClose(): void {
  it("closing an object closes its maps, not those that stand alone", () => {
    const object = loadFixture();
    const [flows, shared] = [object.map("flows"), object.map("shared")];
    const alone = createMap({});
    const events = addon().RingBuffer.open(object.map("events"));
    flows.close();
    object.close();
    object.close();
    expect([outcome(() => flows.info()), outcome(() => shared.info())])
      .toEqual(["CLOSED", "CLOSED"]);
    expect([outcome(() => alone.info()), outcome(() => events.consume(1))]).toEqual(["ok", "ok"]);
  });

  it("a child process inherits no descriptor", () => {
    expectScript(`
      const { spawnSync } = require("node:child_process");
      const inherited = () => spawnSync("ls", ["-l", "/proc/self/fd"], { encoding: "utf8" })
        .stdout.split("\\n").length;
      const before = inherited();
      ${OPEN_ALL}
      const link = native.XdpLink.attach(object, "pass", 1, 2);
      process.stdout.write(String(inherited() - before));
    `, "0", OWN_NETWORK);
  });

  it("every descriptor is closed by close", () => {
    expectScript(`
      const before = bpfFds();
      ${OPEN_ALL}
      const link = native.XdpLink.attach(object, "pass", 1, 2);
      if (bpfFds() <= before + 10) throw new Error("nothing was counted");
      for (const each of [link, socket, events, object]) each.close();
      await tick();
      process.stdout.write(String(bpfFds() - before) + " " + memory.byteLength);
      await until("the memory is unmapped", () => mappings() === 0);
    `, "0 0", OWN_NETWORK);
  });
}

function testGarbage(): void {
  it("what nobody holds is closed by the collector", () => {
    expectScript(`
      const before = bpfFds();
      (() => {
        for (let i = 0; i < 20; i++) {
          const object = loadObject();
          new Uint8Array(object.map("shared").mmap())[0] = i;
          native.RingBuffer.open(object.map("events"));
          native.NetlinkSocket.open(0, 1);
        }
      })();
      if (bpfFds() < before + 200 || mappings() < 20) throw new Error("nothing was counted");
      await until("the descriptors are closed", () => bpfFds() === before);
      await until("the memory is unmapped", () => mappings() === 0);
    `, "");
  });

  it("memory lives as long as somebody looks at it, without its map and its object", () => {
    expectScript(`
      let view = new Uint8Array(loadObject().map("shared").mmap());
      const before = bpfFds();
      // From 1.5 on libbpf maps the object's constants too, until the object closes.
      await until("the object is collected", () => bpfFds() < before && mappings() <= 1);
      for (let i = 0; i < view.length; i++) view[i] = 7;
      process.stdout.write(view.length + " " + view[5] + " " + mappings());
      view = null;
      await until("the memory is unmapped", () => mappings() === 0);
    `, "15024 7 1");
  });

  it("memory is copied for another thread, never moved to it", () => {
    expectScript(`
      const map = array();
      const view = new Uint8Array(map.mmap());
      view[0] = 5;
      const copy = structuredClone(view);
      // node copies what must not move, or throws.
      try { structuredClone(view.buffer, { transfer: [view.buffer] }); } catch {}
      const left = view.length;
      map.close();
      globalThis.gc();
      await tick();
      process.stdout.write([copy[0], left, view.length].join(" "));
    `, "5 8 0");
  });

  it("a map outlives an object that nobody holds", () => {
    expectScript(`
      const flows = loadObject().map("flows");
      const before = bpfFds();
      await until("the object is collected", () => bpfFds() < before);
      flows.update(new Uint8Array(8), new Uint8Array(8).fill(3), 0);
      process.stdout.write(String(flows.lookup(new Uint8Array(8))[0]));
      flows.close();
    `, "3");
  });

  it("a map that was collected is given out anew", () => {
    expectScript(`
      const object = loadObject();
      const id = (() => object.map("flows").info().id)();
      const before = bpfFds();
      await until("the map is collected", () => bpfFds() < before);
      process.stdout.write(String(object.map("flows").info().id === id));
    `, "true");
  });
}

/** A worker that runs this, with the prologue. */
const startWorker = (body: string) => `new Worker(${JSON.stringify(script(body))}, { eval: true })`;

function testProcesses(): void {
  it("a process ends with everything open, and is not kept by a watcher", () => {
    expectScript(`${OPEN_ALL} process.stdout.write("end");`, "end");
    expectScript(`${OPEN_ALL} native.gracePeriod(); process.exit(0);`, "");
  });

  it("libbpf never writes to standard error", () => {
    expectScript(`
      let codes = [];
      for (const attempt of [
        () => native.BpfObject.open(REJECTED).load(), () => native.BpfObject.open("/etc/passwd"),
        () => native.BpfObject.open("/nowhere"),
        () => native.XdpLink.attach(loadObject(), "pass", 99999, 0),
      ]) try { attempt(); } catch (error) { codes.push(error.code); }
      process.stdout.write(codes.join(" "));
    `, "VERIFIER BAD_ARGUMENT NOT_FOUND NOT_FOUND");
  });
}

function testThreads(): void {
  it("workers load, open and exit; nothing of theirs stays", () => {
    expectScript(`
      const before = bpfFds();
      for (let i = 0; i < 5; i++) {
        const worker = ${startWorker(`${OPEN_ALL} parentPort.postMessage(bpfFds());`)};
        // Both may come in one turn, so both are listened for from the start.
        const [inside, code] = await Promise.all(["message", "exit"].map((event) => {
          return new Promise((resolve) => worker.once(event, resolve));
        }));
        if (code !== 0 || inside <= before) throw new Error("exit " + code + ", fds " + inside);
      }
      await until("the descriptors are closed", () => bpfFds() === before);
      await until("the memory is unmapped", () => mappings() === 0);
      // The main thread's own instance is still whole.
      process.stdout.write(String(loadObject().programNames().length));
    `, "9");
  });

  it("a worker is terminated while it works, waits and watches", () => {
    expectScript(`
      for (let i = 0; i < 5; i++) {
        const worker = ${startWorker(`
          ${OPEN_ALL}
          setInterval(() => {}, 1000);
          native.gracePeriod();
          parentPort.postMessage("open");
          if (workerData === null) for (;;) object.testRun("pass", new Uint8Array(64),
            { repeat: 1, flags: 0, context: null, outputSizeMax: 0, batchSize: 0 });
        `)};
        await new Promise((resolve) => worker.once("message", resolve));
        await worker.terminate();
      }
      process.stdout.write("end");
    `, "end");
  });

  it("a worker is terminated in a callback", () => {
    expectScript(`
      for (let i = 0; i < 5; i++) {
        const worker = ${startWorker(`
          const socket = native.NetlinkSocket.open(0, 0);
          socket.onReadable(() => { parentPort.postMessage("called"); for (;;) socket.receive(); });
          socket.send(linkDump);
          setInterval(() => {}, 1000);
        `)};
        await new Promise((resolve) => worker.once("message", resolve));
        await worker.terminate();
      }
      process.stdout.write("end");
    `, "end");
  });

  it("an addon that only a worker loaded can be loaded again", () => {
    expectScript(`
      for (let i = 0; i < 3; i++) {
        const worker = ${startWorker(`
          let log = null;
          try { native.BpfObject.open(REJECTED).load(); } catch (error) { log = error.log; }
          if (log === null) throw new Error("no log");
        `)};
        const code = await new Promise((resolve) => worker.once("exit", resolve));
        if (code !== 0) throw new Error("exit " + code);
      }
    `, "");
  });
}

function testCallbacks(): void {
  it("an exception in a callback is the process's uncaught exception", () => {
    expectScript(`
      let closed = false;
      process.on("uncaughtException", (error) => {
        process.stdout.write(error.message);
        socket.close();
        closed = true;
      });
      const socket = native.NetlinkSocket.open(0, 0);
      socket.onReadable(() => { throw new Error("thrown in the callback"); });
      socket.send(linkDump);
      await until("the exception was caught", () => closed);
    `, "thrown in the callback");
  });

  it("a callback may close its socket, and drop it", () => {
    expectScript(`
      let calls = 0;
      for (let i = 0; i < 10; i++) {
        let socket = native.NetlinkSocket.open(0, 0);
        socket.onReadable(() => { calls++; socket.close(); socket = null; globalThis.gc(); });
        socket.send(linkDump);
      }
      await until("all were called", () => calls === 10);
      process.stdout.write(String(calls));
    `, "10");
  });
}

function testGracePeriod(): void {
  it("ends, and programs run on", async () => {
    const object = loadFixture();
    await expect(addon().gracePeriod()).resolves.toBeUndefined();
    const inner = createMap({});
    inner.update(u32(0), u32(3), 0);
    object.map("rings").updateInner(u32(0), inner);
    expect(fromU32(inner.lookup(u32(0)))).toEqual([3]);
    expect(actionOf(object, "look_inside")).toBe(3);
    await Promise.all([addon().gracePeriod(), addon().gracePeriod()]);
    expect(actionOf(object, "look_inside")).toBe(3);
  });

  it("takes the other way where membarrier is refused, and says so where both are", () => {
    const refuse = join(filesDirectory(), "refuse_membarrier");
    const source = join(import.meta.dirname, "fixtures/refuse_membarrier.c");
    runInSync(null, "cc", ["-o", refuse, source]);
    const wait = `
      const said = await native.gracePeriod().then(() => ["ended"],
        (error) => [error.code, error.errno, error.operation]);
      process.stdout.write(said.join(" "));
    `;
    expectScript(wait, "ended", [refuse]);
    chmodSync(filesDirectory(), 0o755);
    const unprivileged = [refuse, "setpriv", "--bounding-set=-all", "--"];
    expectScript(wait, "PERMISSION 1 gracePeriod", unprivileged);
  });
}
