// A self-signed certificate made on the spot: tests need expired and wrong ones, and a key in a
// repository is a false alarm for every scanner. DER as in X.690, the structure as in RFC 5280.

import { generateKeyPairSync, sign } from "node:crypto";

export interface TestCertificate {
  readonly key: string;
  readonly cert: string;
}

function tagged(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const length = body.length < 128
    ? Buffer.of(body.length)
    : Buffer.of(0x82, body.length >> 8, body.length & 0xff);
  return Buffer.concat([Buffer.of(tag), length, body]);
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => tagged(0x30, ...parts);
const OID_ECDSA_SHA256 = Buffer.from("06082a8648ce3d040302", "hex");
const OID_COMMON_NAME = Buffer.from("0603550403", "hex");
const OID_ALTERNATIVE_NAMES = Buffer.from("0603551d11", "hex");

function generalizedTime(date: Date): Buffer {
  return tagged(0x18, Buffer.from(date.toISOString().replace(/[-:T]|\.\d{3}/g, "")));
}

/** A P-256 certificate for one DNS name, valid between two dates. */
export function createCertificate(name: string, from: Date, to: Date): TestCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = sequence(OID_ECDSA_SHA256);
  const subject = sequence(tagged(0x31, sequence(OID_COMMON_NAME, tagged(0x0c, Buffer.from(name)))));
  const alternatives = sequence(tagged(0x82, Buffer.from(name)));
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.of(2))), // version 3
    tagged(0x02, Buffer.of(1)), // serial number
    algorithm, subject, sequence(generalizedTime(from), generalizedTime(to)), subject,
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(sequence(OID_ALTERNATIVE_NAMES, tagged(0x04, alternatives)))),
  );
  const signature = tagged(0x03, Buffer.of(0), sign("sha256", body, privateKey));
  const lines = sequence(body, algorithm, signature).toString("base64").match(/.{1,64}/g) ?? [];
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    cert: ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n"),
  };
}
