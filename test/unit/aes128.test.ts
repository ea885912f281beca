// AES-128 by the vectors of FIPS 197, and against the cipher of Node over random keys and blocks; and
// its C twin, compiled here, with the same. Without a compiler that part is skipped by name.

import { createCipheriv, createDecipheriv } from "node:crypto";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  decryptBlock, decryptionSchedule, encryptBlock, encryptionSchedule,
} from "../../src/model/aes128.ts";
import { onPath } from "../../scripts/search_path.ts";
import { CLANGS, NO_CLANG, describeCompiled } from "../support/clang.ts";
import { assertProperty, parameters } from "../support/counts.ts";

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString("hex");
}

/** Words in the order of their bytes. */
function words(schedule: Uint32Array): string[] {
  return [...schedule].map((word) => {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32LE(word);
    return buffer.toString("hex");
  });
}

describe("AES-128", () => {
  it("expands the key of FIPS 197, A.1", () => {
    const schedule = words(encryptionSchedule(bytes("2b7e151628aed2a6abf7158809cf4f3c")));
    expect(schedule.slice(0, 8)).toEqual([
      "2b7e1516", "28aed2a6", "abf71588", "09cf4f3c", "a0fafe17", "88542cb1", "23a33939", "2a6c7605",
    ]);
    expect(schedule.slice(40)).toEqual(["d014f9a8", "c9ee2589", "e13f0cc8", "b6630ca6"]);
  });

  it("has the round keys of the equivalent inverse cipher of FIPS 197, C.1", () => {
    const schedule = words(decryptionSchedule(bytes("000102030405060708090a0b0c0d0e0f")));
    expect(schedule.slice(0, 8).join("")).toBe(
      "13111d7fe3944a17f307a78b4d2b30c5" + "13aa29be9c8faff6f770f58000f7bf03",
    );
    expect(schedule.slice(40).join("")).toBe("000102030405060708090a0b0c0d0e0f");
  });

  it.each([
    ["B", "2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734",
      "3925841d02dc09fbdc118597196a0b32"],
    ["C.1", "000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
      "69c4e0d86a7b0430d8cdb78070b4c55a"],
  ])("encrypts and decrypts FIPS 197, %s", (_, key, plain, hidden) => {
    expect(hex(encryptBlock(encryptionSchedule(bytes(key)), bytes(plain)))).toBe(hidden);
    expect(hex(decryptBlock(decryptionSchedule(bytes(key)), bytes(hidden)))).toBe(plain);
  });

  it("does what Node's cipher does", () => {
    const block = fc.uint8Array({ minLength: 16, maxLength: 16 });
    assertProperty("aes", fc.property(block, block, (key, data) => {
      const cipher = createCipheriv("aes-128-ecb", key, null).setAutoPadding(false);
      expect(hex(encryptBlock(encryptionSchedule(key), data))).toBe(hex(cipher.update(data)));
      const decipher = createDecipheriv("aes-128-ecb", key, null).setAutoPadding(false);
      expect(hex(decryptBlock(decryptionSchedule(key), data))).toBe(hex(decipher.update(data)));
    }));
  });

  it("refuses keys and blocks of another length", () => {
    expect(() => encryptionSchedule(new Uint8Array(15))).toThrow("an AES-128 key has 16 bytes, not 15");
    const schedule = encryptionSchedule(new Uint8Array(16));
    expect(() => encryptBlock(schedule, new Uint8Array(17))).toThrow("an AES block has 16 bytes, not 17");
  });
});

const compiler = ["cc", "gcc", ...CLANGS].find(onPath);

describeCompiled("the twin in C", compiler === undefined ? "no C compiler (cc, gcc or clang)" : null, () => {
  let directory: string;
  beforeAll(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-aes-")); });
  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  it("does what TypeScript does", () => {
    const program = join(directory, "aes128");
    const source = join(import.meta.dirname, "aes128.c");
    execFileSync(compiler ?? "cc", ["-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source]);
    const block = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const pairs = fc.sample(fc.tuple(block, block), parameters("aes"));
    const asked = pairs.flatMap(([key, data]) => [
      `encrypt ${words(encryptionSchedule(key)).join("")} ${hex(data)}`,
      `decrypt ${words(decryptionSchedule(key)).join("")} ${hex(data)}`,
    ]);
    const answers = execFileSync(program, { input: `${asked.join("\n")}\n`, encoding: "utf8", maxBuffer: 1 << 28 });
    expect(answers.trim().split("\n")).toEqual(pairs.flatMap(([key, data]) => [
      hex(encryptBlock(encryptionSchedule(key), data)), hex(decryptBlock(decryptionSchedule(key), data)),
    ]));
  });
});

describeCompiled("the twin in C, for BPF", NO_CLANG, () => {
  it("looks its tables up by words, not byte by byte", () => {
    const headers = join(import.meta.dirname, "../../bpf");
    const includes = `/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
    for (const clang of NO_CLANG === null ? CLANGS : ["clang"]) {
      const result = spawnSync(clang, [
        "-O2", "-target", "bpf", "-mcpu=v3", "-isystem", includes, "-I", headers,
        "-Wall", "-Wextra", "-Werror", "-x", "c", "-S", "-o", "-", "-",
      ], { input: '#include "aes128.h"\n', encoding: "utf8" });
      expect(result.stderr).toBe("");
      // The last round alone has bytes to look for: sixteen, in either direction (and clang shares some).
      expect(result.stdout.match(/= \*\(u8 \*\)/g)?.length ?? 99).toBeLessThanOrEqual(32);
    }
  });
});
