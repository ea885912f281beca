// The only door to the addon: its names in the same order as native/*.cc, as types, and the one
// require of the shared object. Knows paths and shapes; knows no service, ring or verdict.
//
// Rules of the boundary: exact-size Uint8Arrays in and out, null for nothing, undefined never
// accepted, no optional properties. Failures throw NativeError with { code, errno, operation,
// object, log }: a wrong type is BAD_ARGUMENT, a wrong length BAD_SIZE, a call at the wrong stage or
// on the wrong kind of object BAD_STATE. Calls are synchronous but for gracePeriod(). Closing twice
// is allowed; any other use after close throws code CLOSED.

import { createRequire } from "node:module";

export type NativeCode =
  | "CLOSED" | "BAD_ARGUMENT" | "BAD_SIZE" | "BAD_STATE" | "NOT_FOUND" | "PERMISSION" | "EXISTS" | "BUSY"
  | "VERIFIER" | "FULL" | "NOT_SUPPORTED" | "SYSTEM";

/** What the addon throws. `log` is the verifier's log for VERIFIER, else null. `errno` is positive, 0 when none. */
export interface NativeError extends Error {
  readonly code: NativeCode;
  readonly errno: number;
  readonly operation: string;
  readonly object: string;
  readonly log: string | null;
}

export interface BpfMapInfo {
  readonly id: number;
  /** The kernel's name, at most 15 bytes. */
  readonly name: string;
  /** enum bpf_map_type. */
  readonly type: number;
  readonly keySize: number;
  /** As declared; a per-CPU value is read and written as possibleCpus × this rounded up to 8. */
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
}

export interface BpfProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Eight bytes as 16 hex digits. */
  readonly tag: string;
  readonly xlatedInstructions: number;
  readonly jitedBytes: number;
  readonly verifiedInstructions: number;
}

export interface XdpLinkInfo {
  readonly id: number;
  readonly ifindex: number;
  readonly programId: number;
}

export interface TestRunOptions {
  /** Runs, at least 1. The packet is not restored between runs. */
  readonly repeat: number;
  /** BPF_F_TEST_XDP_LIVE_FRAMES and friends. */
  readonly flags: number;
  /** struct xdp_md as context, or null. */
  readonly context: Uint8Array | null;
  /** Room for the output packet in bytes; 0 when it is not wanted. */
  readonly outputSizeMax: number;
  /** Frames per batch for live frames, 0 for the default. */
  readonly batchSize: number;
}

export interface TestRunResult {
  /** enum xdp_action. */
  readonly action: number;
  /** The packet after the program, exactly as long as it is; null when outputSizeMax was 0. */
  readonly output: Uint8Array | null;
  /** struct xdp_md after the run, or null when none was given. */
  readonly context: Uint8Array | null;
  /** Mean of one run, nanoseconds, as the kernel measured it. */
  readonly durationNs: number;
}

export interface BpfMap {
  info(): BpfMapInfo;
  /** The value, or null when the key is absent. */
  lookup(key: Uint8Array): Uint8Array | null;
  /** flags: 0 any, 1 only when absent (EXISTS), 2 only when present (NOT_FOUND). */
  update(key: Uint8Array, value: Uint8Array, flags: number): void;
  /** False when the key was absent. */
  delete(key: Uint8Array): boolean;
  /** The key after this one (null: the first), or null at the end. */
  nextKey(key: Uint8Array | null): Uint8Array | null;
  /** Up to `count` entries; `cursor` is null at first; the answer's cursor is null at the end. */
  lookupBatch(cursor: Uint8Array | null, count: number): {
    keys: Uint8Array; values: Uint8Array; count: number; cursor: Uint8Array | null;
  };
  /** Concatenated keys and values; returns how many were written. */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): number;
  /** Returns how many were deleted; it stops at the first key that is absent. */
  deleteBatch(keys: Uint8Array, count: number): number;
  /** Puts an inner map under a key of an array-of-maps or hash-of-maps. */
  updateInner(key: Uint8Array, inner: BpfMap): void;
  /** The memory of a BPF_F_MMAPABLE array, shared with the kernel; detached (length 0) by close(). */
  mmap(): ArrayBuffer;
  pin(path: string): void;
  freeze(): void;
  close(): void;
}

export interface BpfObject {
  /** Names of the maps in the object file, in its order. */
  mapNames(): string[];
  programNames(): string[];
  /** Before load: the section's initial bytes (".rodata"), or null when there is none. */
  section(name: string): Uint8Array | null;
  /** Before load: replaces the section's bytes; the size must be the same. */
  setSection(name: string, bytes: Uint8Array): void;
  /** Before load. */
  setMaxEntries(map: string, maxEntries: number): void;
  /**
   * Before load: use this live map in place of the declared one. Type, flags and sizes must agree;
   * the number of entries may differ, since a map that has grown is the reason for this call.
   */
  reuseMap(name: string, map: BpfMap): void;
  /** Before load: programs not to load. */
  setAutoload(program: string, autoload: boolean): void;
  /** Once only: after a failure the file has to be opened again. */
  load(): void;
  /** After load. The map is a child: closing the object closes it. */
  map(name: string): BpfMap;
  programInfo(name: string): BpfProgramInfo;
  testRun(program: string, packet: Uint8Array, options: TestRunOptions): TestRunResult;
  pinProgram(name: string, path: string): void;
  close(): void;
}

export interface XdpLink {
  info(): XdpLinkInfo;
  /** Replaces the program atomically. */
  update(object: BpfObject, program: string): void;
  pin(path: string): void;
  /** Takes the program off the interface, pinned or not. */
  detach(): void;
  close(): void;
}

export interface RingBuffer {
  /** Records that are there now, at most `max`, in order, copied. */
  consume(max: number): Uint8Array[];
  close(): void;
}

export interface NetlinkSocket {
  send(message: Uint8Array): void;
  /**
   * Datagrams of the kernel that are there now, at most 4096; throws SYSTEM with errno ENOBUFS (105)
   * once after an overrun.
   */
  receive(): Uint8Array[];
  /**
   * Calls back (on the event loop) when there is something to receive. At most one callback; null
   * stops it. It keeps the socket from being collected, but never the process from ending.
   */
  onReadable(callback: (() => void) | null): void;
  close(): void;
}

export interface Native {
  readonly BpfMap: {
    /** innerMap: the prototype for map-in-map types, else null. */
    create(spec: {
      name: string; type: number; keySize: number; valueSize: number; maxEntries: number;
      flags: number; innerMap: BpfMap | null;
    }): BpfMap;
    open(pinPath: string): BpfMap;
  };
  readonly BpfObject: { open(path: string): BpfObject };
  readonly XdpLink: {
    /** mode: 0 let the driver choose, 2 generic (XDP_FLAGS_SKB_MODE), 4 native (XDP_FLAGS_DRV_MODE). */
    attach(object: BpfObject, program: string, ifindex: number, mode: number): XdpLink;
    open(pinPath: string): XdpLink;
  };
  readonly RingBuffer: { open(map: BpfMap): RingBuffer };
  readonly NetlinkSocket: {
    /** protocol: NETLINK_ROUTE = 0. groups: RTMGRP_* bits. Non-blocking, 1 MiB receive buffer. */
    open(protocol: number, groups: number): NetlinkSocket;
  };
  /** Resolves when every program run that began before the call has ended (a libuv worker waits). */
  gracePeriod(): Promise<void>;
  possibleCpus(): number;
  /** Moves the calling thread into a network namespace (setns), for tests and the lab. */
  enterNetworkNamespace(path: string): void;
  /** Mounts bpffs on a directory that exists, when it is not one already. */
  mountBpffs(path: string): void;
  /** Names of interfaces are netlink's; this is the quick way: 0 when there is none of this name. */
  interfaceIndex(name: string): number;
  /**
   * A TCP socket, non-blocking and not connected, with SO_MARK set and bound to this address (four or sixteen
   * bytes) at a free port. The descriptor is the caller's to close. SO_MARK takes CAP_NET_ADMIN.
   */
  openMarkedSocket(address: Uint8Array, mark: number): { descriptor: number; port: number };
  /**
   * IP packets one behind the other, each with its header, which may name any source; by the kernel's routes.
   * Takes CAP_NET_RAW. Returns how many of them the kernel took.
   */
  sendPackets(packets: Uint8Array): number;
  readonly libbpfVersion: string;
}

/** Loads the addon; throws what require throws when it is not built or does not fit. */
export function loadNative(path: string): Native {
  return createRequire(import.meta.url)(path) as Native;
}
