// Server-sent events (WHATWG HTML, "Server-sent events"): an event to text and a stream of text back to
// events. Knows the framing only; must never know what the data means.

export interface ServerSentEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/** One event. `data` may have several lines, `id` and `event` may not. */
export function encodeServerSentEvent({ id, event, data }: ServerSentEvent): string {
  const lines = data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`).join("");
  return `id: ${id}\nevent: ${event}\n${lines}\n`;
}

/** The id of an event of ours. Numbers begin anew with each process, so it says of which it is. */
export function placeOf(life: string, number: number): string {
  return `${life}.${number}`;
}

/** Of which process an event is, and its number there. Null: the id is none of ours. */
export function partsOf(id: string): { readonly life: string; readonly number: number } | null {
  const found = /^([0-9a-z]{1,20})\.(\d{1,15})$/.exec(id);
  return found === null ? null : { life: found[1] ?? "", number: Number(found[2]) };
}

/** After which event of this life one goes on who has heard `lastEventId`; null: nothing that we understand. */
export function placeAfter(lastEventId: unknown, life: string): number | null {
  if (typeof lastEventId !== "string") return null;
  if (/^\d{1,15}$/.test(lastEventId)) return Number(lastEventId);
  const parts = partsOf(lastEventId);
  if (parts === null) return null;
  return parts.life === life ? parts.number : 0;
}

/** A line that says nothing: keeps a connection known to be alive. */
export const SERVER_SENT_COMMENT = ": alive\n\n";

/** Characters that one event may have; a stream beyond it is not ours. */
const EVENT_LENGTH_MAX = 1 << 20;

/** Chunks may cut lines, characters and events anywhere. An unfinished event at the end is dropped. */
export async function* decodeServerSentEvents(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let id = "";
  let event = "";
  let data: string[] = [];
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    if (rest.length > EVENT_LENGTH_MAX) throw new RangeError("a server-sent event without end");
    // A CR at the very end may be half of a CRLF.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { id, event, data: data.join("\n") };
        event = "";
        data = [];
        continue;
      }
      const [field, value] = fieldOf(line);
      if (field === "id") id = value;
      else if (field === "event") event = value;
      else if (field === "data") data.push(value);
    }
  }
}

function fieldOf(line: string): readonly [string, string] {
  const colon = line.indexOf(":");
  if (colon < 0) return [line, ""];
  const value = line.slice(colon + 1);
  return [line.slice(0, colon), value.startsWith(" ") ? value.slice(1) : value];
}
