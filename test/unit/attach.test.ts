// How a program gets onto an interface where something is in the way: what is tried, in which order, and what is said.
// The kernel is made up: no interface here has an offload that its driver would refuse.

import { describe, expect, it } from "vitest";
import { attachInterface, type Attachment, type ObstacleTo } from "../../src/dataplane/xdp/attach.ts";
import type { Obstacle } from "../../src/dataplane/xdp/finding.ts";
import type { BpfObject, Native, XdpLink } from "../../src/dataplane/xdp/native.ts";
import type { Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import type { Pins } from "../../src/dataplane/xdp/pins.ts";
import type { XdpMode } from "../../src/model/config.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const NATIVE = 4;
const EBUSY = 16;
const EINVAL = 22;
const LINK = {
  ifindex: 2, name: "eth0", mac: "02:00:00:00:00:01", mtu: 1500, up: true, loopback: false, arp: true, kind: null, peer: 0,
  master: 0, xdp: { mode: "none", programId: 0 },
} as Link;
const MERGES = { found: "the card merges packets (lro on)", remedy: "ethtool -K eth0 lro off" };

class Kernel {
  readonly env = createFakeEnv();
  readonly asked: number[] = [];
  pinned = 0;
  /** Who has the interface's program. */
  holder: Obstacle | null = null;
  /** What the kernel's refusal is called. */
  code = "INVALID";
  readonly #refuses: number | null;

  /** Refuses native programs with this errno. */
  constructor(refuses: number | null) {
    this.#refuses = refuses;
  }

  attach(mode: XdpMode, obstacle: ObstacleTo): Attachment {
    const native = { XdpLink: { attach: (_object: BpfObject, _program: string, _ifindex: number, flags: number): XdpLink => {
      this.asked.push(flags);
      if (flags === NATIVE && this.#refuses !== null) {
        throw Object.assign(new Error("refused"), { code: this.code, errno: this.#refuses, operation: "attach", object: "eth0", log: "" });
      }
      return { pin: () => { this.pinned += 1; }, close: () => undefined } as unknown as XdpLink;
    } } } as unknown as Native;
    const pins = { linkPath: () => "/link", has: () => false } as unknown as Pins;
    return attachInterface({ native, log: this.env.log, pins, object: {} as BpfObject, mode, obstacle, holder: () => this.holder }, LINK);
  }
}

describe("an interface", () => {
  it("gets native XDP where nothing is in the way", () => {
    const kernel = new Kernel(null);
    expect(kernel.attach("auto", () => null)).toMatchObject({ mode: "native", note: null, remedy: null });
    expect(kernel).toMatchObject({ asked: [4], pinned: 1 });
  });

  it("whose driver refuses gets generic XDP, and the offload that may be why is named", () => {
    const kernel = new Kernel(EINVAL);
    const attached = kernel.attach("auto", (_link, to) => to === "refused" ? MERGES : null);
    expect(attached).toMatchObject({ mode: "generic", remedy: "ethtool -K eth0 lro off" });
    expect(attached.note).toContain("eth0 refuses native XDP: its settings do not allow it");
    expect(attached.note).toContain("; the card merges packets (lro on) (ethtool -K eth0 lro off)");
    expect(kernel.env.messages("warn")).toEqual(["XDP runs in generic mode on this interface, which is slower"]);
    expect(() => new Kernel(EINVAL).attach("native", (_link, to) => to === "refused" ? MERGES : null)).toThrow("ethtool -K eth0 lro off");
    expect(new Kernel(EINVAL).attach("auto", () => null)).toMatchObject({ mode: "generic", remedy: null });
  });

  it("where native XDP would lose packets is not asked for it", () => {
    const lost = { found: "br0 takes no frames that native XDP redirects", remedy: "dataplane.xdp: generic" };
    const kernel = new Kernel(null);
    const obstacle: ObstacleTo = (_link, to) => to === "native" ? lost : null;
    expect(kernel.attach("auto", obstacle)).toMatchObject({ mode: "generic", remedy: lost.remedy });
    expect(kernel.asked).toEqual([2]);
    expect(() => kernel.attach("native", obstacle)).toThrow("native XDP on eth0 would lose packets: br0 takes no frames");
    expect(kernel.asked).toEqual([2]);
  });

  it("that runs a program already says whose it is, as far as that is known", () => {
    const kernel = new Kernel(EBUSY);
    kernel.code = "BUSY";
    expect(() => kernel.attach("auto", () => null)).toThrow(
      "eth0 runs another program already: detach it (pointsman detach --instance …, or \"ip link set eth0 xdp off\")");
    kernel.holder = { found: "the program of the instance b", remedy: "pointsman detach --instance b" };
    expect(() => kernel.attach("auto", () => null)).toThrow("eth0 runs the program of the instance b already: pointsman detach --instance b");
    expect(kernel).toMatchObject({ asked: [4, 4], pinned: 0 });
  });

  it("where every mode would lose packets gets no program", () => {
    const kernel = new Kernel(null);
    const lost = { found: "it would", remedy: "another one" };
    for (const mode of ["auto", "native", "generic"] as const)
      expect(() => kernel.attach(mode, () => lost)).toThrow(/^(native|generic) XDP on eth0 would lose packets: it would \(another one\)$/);
    expect(kernel).toMatchObject({ asked: [], pinned: 0 });
  });
});
