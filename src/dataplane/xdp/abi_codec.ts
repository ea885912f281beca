// What the generated codecs are made of: one field at a time, with its range, length and byte order
// checked. BPF here is little-endian, as the hosts are; `be` fields are in network order. Knows no
// struct.

/** Refuses a buffer that is not exactly one value. */
export function exactView(bytes: Uint8Array, size: number, what: string): DataView {
  if (bytes.length !== size) throw new RangeError(`${what} has ${size} bytes, not ${bytes.length}`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function inRange(value: number, min: number, max: number, what: string): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${what} is an integer from ${min} to ${max}, not ${value}`);
  }
  return value;
}

export function setU8(view: DataView, at: number, value: number, what: string): void {
  view.setUint8(at, inRange(value, 0, 0xff, what));
}

export function setU16(view: DataView, at: number, value: number, what: string): void {
  view.setUint16(at, inRange(value, 0, 0xffff, what), true);
}

export function setU32(view: DataView, at: number, value: number, what: string): void {
  view.setUint32(at, inRange(value, 0, 0xffffffff, what), true);
}

export function setBe16(view: DataView, at: number, value: number, what: string): void {
  view.setUint16(at, inRange(value, 0, 0xffff, what), false);
}

export function setBe32(view: DataView, at: number, value: number, what: string): void {
  view.setUint32(at, inRange(value, 0, 0xffffffff, what), false);
}

export function setS8(view: DataView, at: number, value: number, what: string): void {
  view.setInt8(at, inRange(value, -0x80, 0x7f, what));
}

export function setS16(view: DataView, at: number, value: number, what: string): void {
  view.setInt16(at, inRange(value, -0x8000, 0x7fff, what), true);
}

export function setS32(view: DataView, at: number, value: number, what: string): void {
  view.setInt32(at, inRange(value, -0x80000000, 0x7fffffff, what), true);
}

export function setU64(view: DataView, at: number, value: bigint, what: string): void {
  if (BigInt.asUintN(64, value) !== value)
    throw new RangeError(`${what} is an unsigned 64-bit integer, not ${value}`);
  view.setBigUint64(at, value, true);
}

export function setBe64(view: DataView, at: number, value: bigint, what: string): void {
  if (BigInt.asUintN(64, value) !== value)
    throw new RangeError(`${what} is an unsigned 64-bit integer, not ${value}`);
  view.setBigUint64(at, value, false);
}

export function setS64(view: DataView, at: number, value: bigint, what: string): void {
  if (BigInt.asIntN(64, value) !== value)
    throw new RangeError(`${what} is a signed 64-bit integer, not ${value}`);
  view.setBigInt64(at, value, true);
}

export function setBytes(
  view: DataView,
  at: number,
  value: Uint8Array,
  length: number,
  what: string,
): void {
  if (value.length !== length)
    throw new RangeError(`${what} has ${length} bytes, not ${value.length}`);
  new Uint8Array(view.buffer, view.byteOffset + at, length).set(value);
}

/** Writes each element of an array that must be exactly as long as the field. */
export function setEach<T>(
  values: readonly T[],
  at: number,
  step: number,
  length: number,
  what: string,
  set: (value: T, at: number) => void,
): void {
  if (values.length !== length)
    throw new RangeError(`${what} has ${length} elements, not ${values.length}`);
  values.forEach((value, index) => {
    set(value, at + index * step);
  });
}

/** A copy: the map's memory may change under a view. */
export function getBytes(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

export function getEach<T>(at: number, step: number, length: number, get: (at: number) => T): T[] {
  return Array.from({ length }, (_, index) => get(at + index * step));
}
