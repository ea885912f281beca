// Header fields, whatever version of HTTP they come by. Must never know what one means.

/** The name in small letters; both as Latin-1. */
export type Field = readonly [name: string, value: string];

/** One for each line of this name. */
export function valuesOf(fields: readonly Field[], name: string): readonly string[] {
  return fields.flatMap(([each, value]) => (each === name ? [value] : []));
}
