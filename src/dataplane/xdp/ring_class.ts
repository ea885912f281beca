// Rings come in classes of size. Knows numbers; the ABI has the same.

/** Rings come in sizes, one outer map each; the names are those of the maps without `rings_`. */
export const RING_CLASSES = ["small", "medium", "large"] as const;
export type RingClass = (typeof RING_CLASSES)[number];
/** Slots of each class; adoption compares them with the ABI's. */
export const RING_CLASS_SLOTS: Readonly<Record<RingClass, number>> = {
  small: 16_384, medium: 65_540, large: 2_097_152,
};

/** The smallest class that has room for so many slots. */
export function ringClassOf(size: number): RingClass {
  const found = RING_CLASSES.find((ringClass) => size <= RING_CLASS_SLOTS[ringClass]);
  if (found === undefined) throw new RangeError(`no class of rings has ${size} slots`);
  return found;
}
