// Who is to blame for a connection that broke under churn: the death of its own backend, or the balancer.

import { describe, expect, it } from "vitest";
import { Deaths } from "../../scripts/lab_churn.ts";

const AT_MS = 1_000_000;

function deaths(): Deaths {
  const made = new Deaths();
  made.begin("web-1", AT_MS);
  made.tookEffect(AT_MS, AT_MS + 100);
  made.end("web-1", AT_MS + 5000);
  return made;
}

function explains(name: string, openedMs: number, brokenMs: number): boolean {
  return deaths().explains({ name, openedMs: AT_MS + openedMs, brokenMs: AT_MS + brokenMs });
}

describe("a connection that broke is laid", () => {
  it.each([[-9000, 50], [-9000, 4000], [3000, 3500], [-9000, 20_000], [6500, 7000]])(
    "to the death of its backend, open from %i to %i ms", (opened, broken) => {
      expect(explains("web-1", opened, broken)).toBe(true);
      expect(explains("web-2", opened, broken)).toBe(false);
    });

  it.each([[-9000, -2500], [7500, 8000]])("to the balancer where its backend was alive from %i to %i ms", (opened, broken) => {
    expect(explains("web-1", opened, broken)).toBe(false);
  });

  it("to a death that took effect while it waited for a name, whosever it was", () => {
    expect(explains("", -20, 10)).toBe(true);
    expect(explains("", 90, 120)).toBe(true);
  });

  it.each([[-50, -1], [101, 130], [4000, 4500]])("to the balancer, without a name, where nobody died from %i to %i ms", (opened, broken) => {
    expect(explains("", opened, broken)).toBe(false);
  });
});
