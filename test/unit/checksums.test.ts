// The sums that tests compare with: where there is one to check, and how far it is from right.

import { describe, expect, it } from "vitest";
import { residuesOf } from "../support/checksums.ts";

/** IPv6 and UDP from 2001:db8::1 to 2001:db8::2 with four bytes, and this sum. */
function frameWith(sum: string): Uint8Array {
  const ethernet = "020000000001" + "020000000002" + "86dd";
  const ip = "60000000" + "000c" + "11" + "40" + "20010db8" + "0".repeat(23) + "1" + "20010db8" + "0".repeat(23) + "2";
  return Buffer.from(`${ethernet}${ip}00350035000c${sum}01020304`, "hex");
}

describe("the residue of UDP in IPv6", () => {
  it("is 0 for a right sum, and the difference for another", () => {
    // By hand (RFC 8200, 8.1): twice 2001:0db8, 1, 2, the length 12, the protocol 17, ports 53, length 12, data.
    const words = [0x2001, 0x0db8, 1, 0x2001, 0x0db8, 2, 12, 17, 53, 53, 12, 0x0102, 0x0304];
    const total = words.reduce((sum, word) => sum + word, 0);
    const right = 0xffff - ((total & 0xffff) + (total >> 16));
    const hex = (sum: number): string => sum.toString(16).padStart(4, "0");
    expect(residuesOf(frameWith(hex(right)))).toEqual({ headers: [null], transport: 0 });
    expect(residuesOf(frameWith(hex(right + 5)))).toEqual({ headers: [null], transport: 5 });
  });

  it("is none where none was made (RFC 6935): a translation may not make it up either", () => {
    expect(residuesOf(frameWith("0000"))).toEqual({ headers: [null], transport: null });
  });
});
