// What a linter can judge: strict typed rules, the size of functions, no default exports, no
// barrels. Which room may import which, the length of files and lines, and words are
// test/tidy.test.ts's business.

import tseslint from "typescript-eslint";

const banned = [
  { selector: "ExportDefaultDeclaration", message: "Name what you export." },
  {
    selector: "ExportAllDeclaration",
    message: "Import from where it is defined; only src/index.ts re-exports, by name.",
  },
  {
    selector: "TSAsExpression > TSUnknownKeyword.typeAnnotation",
    message: "Casting through unknown hides what the value is: narrow it.",
  },
];

export default tseslint.config(
  {
    ignores: ["dist/", "build/", "node_modules/", "**/*.gen.ts", "test/**/fixtures/", "bench/out/"],
  },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      "@typescript-eslint/prefer-readonly": "error",
      // Numbers and booleans read well in messages; objects do not.
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // noUncheckedIndexedAccess leaves no other short form for an index that a loop has just
      // bounded.
      "@typescript-eslint/no-non-null-assertion": "off",
      // The compiler's noUnused… are on.
      "@typescript-eslint/no-unused-vars": "off",
      "eqeqeq": "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-console": "error",
      "no-param-reassign": "error",
      "no-restricted-syntax": ["error", ...banned],
    },
  },
  {
    files: ["src/**/*.ts", "scripts/**/*.ts", "bench/**/*.ts"],
    rules: { "max-lines-per-function": ["error", 70] },
  },
  {
    files: ["test/**/*.ts", "examples/**/*.ts"],
    rules: {
      // A test says what it knows by how it reads: a wrong guess fails it at once.
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/unbound-method": "off",
      "@typescript-eslint/no-empty-function": "off",
      "no-console": "off",
      // What is handed to the addon in the wrong type has to get past the compiler first.
      "no-restricted-syntax": ["error", ...banned.slice(0, 2)],
    },
  },
  {
    files: ["**/*.mjs", "**/*.js"],
    rules: {
      "eqeqeq": "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-restricted-syntax": ["error", ...banned],
      "max-lines-per-function": ["error", 70],
    },
  },
  // These tools look for a default export.
  { files: ["*.config.ts", "*.config.js"], rules: { "no-restricted-syntax": "off" } },
);
