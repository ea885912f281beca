// Connection IDs in the kernel: what `quic_configs` and `quic_servers` should hold for a service, as plain
// values, as the bytes of bpf/abi.h, and back. Pure; knows no map. A key is here as its schedule only.

import { AES_SCHEDULE_WORDS } from "../../model/aes128.ts";
import { hexBytes, hexText } from "../../model/hex.ts";
import type { QuicLbConfig, QuicLbMode } from "../../model/quic_lb.ts";
import type { Service } from "../../model/table.ts";
import { QuicConfig, QuicConfigKey, QuicMode, QuicServerKey } from "./abi.gen.ts";

export interface QuicConfigImage {
  /** Of the service. */
  readonly index: number;
  /** What the first three bits of an ID say. */
  readonly id: number;
  readonly mode: QuicLbMode;
  readonly serverIdBytes: number;
  /** Of server ID and nonce. */
  readonly plaintextBytes: number;
  readonly lengthEncoded: boolean;
  /** As the program uses it; zeros where there is no key. */
  readonly schedule: readonly number[];
}

export interface QuicServerImage {
  /** Of the service. */
  readonly index: number;
  /** In hexadecimal digits. */
  readonly serverId: string;
  /** Id. */
  readonly destination: number;
}

export function quicConfigText({ index, id }: Pick<QuicConfigImage, "index" | "id">): string {
  return `${index}/${id}`;
}

export function quicServerText({ index, serverId }: Pick<QuicServerImage, "index" | "serverId">): string {
  return `${index}/${serverId}`;
}

export function sameQuicConfig(a: QuicConfigImage, b: QuicConfigImage): boolean {
  return a.mode === b.mode && a.serverIdBytes === b.serverIdBytes && a.plaintextBytes === b.plaintextBytes
    && a.lengthEncoded === b.lengthEncoded && a.schedule.every((word, at) => word === b.schedule[at]);
}

export function quicConfigImages({ index, quicLb }: Service): QuicConfigImage[] {
  return [...quicLb?.configs.values() ?? []].map((config) => ({
    index, id: config.id, mode: config.mode, serverIdBytes: config.serverIdBytes,
    plaintextBytes: config.serverIdBytes + config.nonceBytes, lengthEncoded: config.lengthEncoded,
    schedule: scheduleOf(config),
  }));
}

/** One pass is undone by decryption, four are by encryption. */
function scheduleOf({ mode, encryption, decryption }: QuicLbConfig): number[] {
  const schedule = mode === "single-pass" ? decryption : encryption;
  return schedule === null ? new Array<number>(AES_SCHEDULE_WORDS).fill(0) : [...schedule];
}

export function quicServerImages({ index, quicLb }: Service): QuicServerImage[] {
  return [...quicLb?.servers ?? []].map(([serverId, destination]) => ({ index, serverId, destination }));
}

const MODE_NUMBERS: Readonly<Record<QuicLbMode, number>> = {
  "plaintext": QuicMode.QUIC_PLAINTEXT, "single-pass": QuicMode.QUIC_SINGLE_PASS,
  "four-pass": QuicMode.QUIC_FOUR_PASS,
};
const MODES = Object.keys(MODE_NUMBERS) as QuicLbMode[];

export function encodeQuicConfigKey({ index, id }: Pick<QuicConfigImage, "index" | "id">): Uint8Array {
  return QuicConfigKey.encode({ service: index, config: id });
}

export function encodeQuicConfig(config: QuicConfigImage): Uint8Array {
  const { plaintextBytes, serverIdBytes, lengthEncoded, mode, schedule } = config;
  const isOdd = plaintextBytes % 2 === 1;
  const half = Math.ceil(plaintextBytes / 2);
  return QuicConfig.encode({
    serverMask: mask(serverIdBytes),
    leftMask: mask(half, (bytes) => { if (isOdd) bytes[half - 1] = 0xf0; }),
    rightMask: mask(half, (bytes) => { if (isOdd) bytes[0] = 0x0f; }),
    mode: MODE_NUMBERS[mode], serverIdBytes, plaintextBytes, rightOffset: plaintextBytes - half,
    lengthEncoded: lengthEncoded ? 1 : 0, schedule: [...schedule],
  });
}

/** The first so many of sixteen bytes, as two words with the first byte lowest. */
function mask(length: number, change: (bytes: Uint8Array) => void = () => undefined): bigint[] {
  const bytes = new Uint8Array(16).fill(0xff, 0, length);
  change(bytes);
  const view = new DataView(bytes.buffer);
  return [view.getBigUint64(0, true), view.getBigUint64(8, true)];
}

export function decodeQuicConfig(key: Uint8Array, value: Uint8Array): QuicConfigImage {
  const { service, config } = QuicConfigKey.decode(key);
  const { mode, serverIdBytes, plaintextBytes, lengthEncoded, schedule } = QuicConfig.decode(value);
  const name = MODES.find((each) => MODE_NUMBERS[each] === mode);
  if (name === undefined) throw new RangeError(`${mode} is no way of hiding server IDs`);
  return {
    index: service, id: config, mode: name, serverIdBytes, plaintextBytes,
    lengthEncoded: lengthEncoded === 1, schedule: [...schedule],
  };
}

export function encodeQuicServerKey({ index, serverId }: Pick<QuicServerImage, "index" | "serverId">): Uint8Array {
  const bytes = new Uint8Array(15);
  bytes.set(hexBytes(serverId));
  return QuicServerKey.encode({ serverId: bytes, serverIdBytes: serverId.length / 2, service: index });
}

export function decodeQuicServer(key: Uint8Array, destination: number): QuicServerImage {
  const { serverId, serverIdBytes, service } = QuicServerKey.decode(key);
  return { index: service, serverId: hexText(serverId.subarray(0, serverIdBytes)), destination };
}
