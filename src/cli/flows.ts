// Numbers of flows as people read them: each with a mark of what sort of number it is, and a line that says what
// the marks mean. `-o json` has the words.

import type { FlowAmount, FlowKind } from "../model/held_flows.ts";
import { amount } from "./table.ts";

/** After the number; `estimated` has one before it. */
const MARKS: Readonly<Record<FlowKind, { readonly mark: string; readonly meaning: string }>> = {
  exact: { mark: "", meaning: "" },
  tracked: { mark: "*", meaning: "seen within flowIdle (tracked)" },
  estimated: { mark: "~", meaning: "about (estimated)" },
  unknown: { mark: "?", meaning: "nobody can tell (unknown)" },
};

/** `12`, `1.2k*`, `~1.2k`, `?`. */
export function layFlows({ count, kind }: FlowAmount): string {
  if (count === null) return MARKS.unknown.mark;
  return kind === "estimated" ? `${MARKS.estimated.mark}${amount(count)}` : `${amount(count)}${MARKS[kind].mark}`;
}

/** Sums by kind, in words; null: there is none. */
export function layAllFlows(sums: readonly FlowAmount[]): string | null {
  if (sums.length === 0) return null;
  return sums.map(({ count, kind }) => (count === null ? "some unknown" : `${amount(count)} ${kind}`)).join(", ");
}

/** Of the marks that occur; nothing where each number is what it looks like. */
export function flowsLegend(amounts: readonly FlowAmount[]): string {
  const meanings = Object.entries(MARKS).filter(([kind, { meaning }]) =>
    meaning !== "" && amounts.some((each) => each.kind === kind));
  return meanings.length === 0 ? ""
    : `flows: ${meanings.map(([, { mark, meaning }]) => `${mark} ${meaning}`).join(", ")}\n`;
}
