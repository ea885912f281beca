// When a kernel suite runs, is skipped with a reason, or fails because it must run.

import { describe, expect, it } from "vitest";
import { decideSuite, missingCapabilities } from "../support/kernel.ts";
import type { Need } from "../support/kernel.ts";

const nothing = (): null => null;
const lacks = (what: Need) => (need: Need): string | null => need === what ? `no ${what}` : null;

describe("decideSuite", () => {
  it("runs where nothing is missing", () => {
    expect(decideSuite(["capabilities", "addon"], nothing, true)).toEqual({ run: true });
    expect(decideSuite([], lacks("addon"), true)).toEqual({ run: true });
  });

  it("skips with the first reason, and fails with it where the tests are required", () => {
    const needs: Need[] = ["capabilities", "addon", "tool:wrk"];
    expect(decideSuite(needs, lacks("addon"), false)).toEqual({
      run: false,
      reason: "no addon",
      fail: false,
    });
    expect(decideSuite(needs, lacks("addon"), true)).toEqual({
      run: false,
      reason: "no addon",
      fail: true,
    });
    expect(decideSuite(needs, lacks("tool:wrk"), true)).toMatchObject({ fail: true });
  });

  it("a peer that plain set-up does not install is never required", () => {
    expect(decideSuite(["peer:haproxy"], lacks("peer:haproxy"), true)).toEqual({
      run: false,
      reason: "no peer:haproxy",
      fail: false,
    });
  });
});

describe("missingCapabilities", () => {
  it("names what the mask lacks", () => {
    expect(missingCapabilities(0x1ffffffffffn)).toEqual([]);
    expect(missingCapabilities(0n)).toEqual([
      "CAP_NET_ADMIN",
      "CAP_SYS_ADMIN",
      "CAP_PERFMON",
      "CAP_BPF",
    ]);
    expect(missingCapabilities(0x1ffffffffffn & ~(1n << 39n))).toEqual(["CAP_BPF"]);
  });
});
