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
