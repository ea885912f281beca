// Regular expressions that take time in proportion to the text, whatever they are and whatever it is: those
// of RE2, without look-around and references back. Wraps a library; knows no config and no body.

import { RE2JS } from "re2js";

/**
 * Longer ones, or larger when compiled (`a{1000}`), would take too long all the same, and so would longer
 * texts: with these bounds the worst that was found takes some 60 ms, others less than one.
 */
const EXPRESSION_CHARACTERS_MAX = 512;
const INSTRUCTIONS_MAX = 300;
export const MATCHED_CHARACTERS_MAX = 16 * 1024;

export type Matches = (text: string) => boolean;

const COMPILED_MAX = 256;
const compiled = new Map<string, Matches>();

/** Whether the start of a text holds a match anywhere. Throws, with words for people, what is no expression. */
export function compileExpression(expression: string): Matches {
  const known = compiled.get(expression);
  if (known !== undefined) return known;
  if (expression.length > EXPRESSION_CHARACTERS_MAX) {
    throw new RangeError(`it has more than ${EXPRESSION_CHARACTERS_MAX} characters`);
  }
  const program = RE2JS.compile(expression);
  if (program.programSize() > INSTRUCTIONS_MAX) throw new RangeError("its repetitions make it too large");
  const matches: Matches = (text) => program.test(text.slice(0, MATCHED_CHARACTERS_MAX));
  if (compiled.size >= COMPILED_MAX) compiled.clear();
  compiled.set(expression, matches);
  return matches;
}
