// The YAML parser's errors in the words of this program. Knows the parser's codes; must never know
// where an error is.

interface Explanation {
  readonly reason: string;
  readonly hint: string | null;
}

const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  TAB_AS_INDENT: { reason: "a tab is used for indentation", hint: "indent with spaces" },
  BAD_ALIAS: {
    reason: "an alias cannot stand here", hint: "put texts that start with * in quotes",
  },
  BAD_DIRECTIVE: {
    reason: "the directive is not supported", hint: "remove the line that starts with %",
  },
  BAD_SCALAR_START: {
    reason: "a text cannot start with this character", hint: "put the text in quotes",
  },
  BLOCK_AS_IMPLICIT_KEY: {
    reason: "a mapping cannot start here", hint: "put texts that contain ': ' in quotes, or check "
      + "the indentation",
  },
  BAD_INDENT: { reason: "the indentation does not fit", hint: "siblings start in the same column; "
    + "brackets are closed" },
  MULTILINE_IMPLICIT_KEY: { reason: "a key has to stand on one line", hint: "is a colon missing?" },
  MISSING_CHAR: {
    reason: "something is missing here", hint: "a colon, a quote, a bracket or a space",
  },
  UNEXPECTED_TOKEN: {
    reason: "this is not expected here", hint: "check indentation, quotes and brackets",
  },
};

export function explainSyntax(code: string, message: string): Explanation {
  const known = EXPLANATIONS[code];
  const detail = message.replace(/\s+/g, " ").trim();
  if (known === undefined) return { reason: `is not valid YAML: ${detail}`, hint: null };
  return { reason: `${known.reason}: ${detail}`, hint: known.hint };
}
