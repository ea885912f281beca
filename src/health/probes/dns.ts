// A probe that asks a DNS server one question, by UDP and again by TCP where the answer was cut short. Knows
// DNS through a library; must never resolve a name for anybody else.

import type { Answer, DecodedPacket, Packet, Question } from "dns-packet";
import dnsPacket from "dns-packet";
import type { DnsHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import { exchange } from "./datagram.ts";
import type { Aim, Doors } from "./socket.ts";
import { converse, openStream } from "./stream.ts";
import { told } from "./words.ts";

const LENGTH_BYTES = 2;
/** A whole datagram of the largest size that is not fragmented on any link (DNS flag day 2020). */
const UDP_PAYLOAD_BYTES = 1232;

export function probeDns(doors: Doors, aim: Aim<DnsHealth>, attempt: Attempt): void {
  const [high = 0, low = 0] = doors.random.bytes(2);
  const query = queryOf(aim.health, high * 256 + low);
  if (aim.health.transport === "tcp") askByTcp(doors, aim, query, attempt);
  else askByUdp(doors, aim, query, attempt);
}

function queryOf({ name, recordType }: DnsHealth, id: number): Packet & { readonly id: number } {
  return {
    type: "query", id, flags: dnsPacket.RECURSION_DESIRED, questions: [{ type: recordType, name }],
    additionals: [{
      type: "OPT", name: ".", udpPayloadSize: UDP_PAYLOAD_BYTES, flags: 0, extendedRcode: 0, ednsVersion: 0, flag_do: false,
      options: [],
    }],
  };
}

type Query = ReturnType<typeof queryOf>;

function askByUdp(doors: Doors, aim: Aim<DnsHealth>, query: Query, attempt: Attempt): void {
  exchange(doors, aim, attempt, dnsPacket.encode(query), (datagram) => {
    const response = decode(datagram, attempt);
    // Another number is that of another question.
    if (response === null || response.id !== query.id) return;
    if (!response.flag_tc) {
      attempt.end(judgeResponse(response, query, aim.health));
      return;
    }
    attempt.release();
    attempt.stage = "connecting, since the answer by UDP was cut short";
    askByTcp(doors, aim, query, attempt);
  });
}

function askByTcp(doors: Doors, aim: Aim<DnsHealth>, query: Query, attempt: Attempt): void {
  openStream(doors, aim, null, attempt, (stream) => {
    attempt.stage = "waiting for the answer by TCP";
    converse(stream, attempt, (heard) => {
      if (heard.length < LENGTH_BYTES) return 0;
      const end = LENGTH_BYTES + heard.readUInt16BE(0);
      if (heard.length < end) return 0;
      const response = decode(heard.subarray(LENGTH_BYTES, end), attempt);
      if (response !== null) attempt.end(judgeResponse(response, query, aim.health));
      return end;
    });
    stream.write(dnsPacket.streamEncode(query));
  });
}

/** Null has ended the attempt. */
function decode(bytes: Buffer, attempt: Attempt): DecodedPacket | null {
  try {
    const packet = dnsPacket.decode(bytes);
    if (packet.type === "response") return packet;
  } catch { /* told below */ }
  attempt.end(failure(`not a DNS answer: ${told(bytes)}`));
  return null;
}

function judgeResponse(response: DecodedPacket, query: Query, health: DnsHealth): Verdict {
  const asked = response.questions?.[0];
  if (response.id !== query.id || (asked !== undefined && !isSame(asked, query.questions?.[0]))) {
    return failure("the answer is to another question");
  }
  // The library's types leave out what it decodes.
  const { rcode } = response as DecodedPacket & { readonly rcode: string };
  const { name, recordType } = health;
  if (rcode !== health.rcode) return failure(`the server answered ${rcode}, expected ${health.rcode}`);
  const answers = (response.answers ?? []).filter(({ type }) => type === recordType).map(textOf);
  const what = `${name} ${recordType}`;
  if (health.answer !== null && !answers.some((each) => each.toLowerCase() === health.answer?.toLowerCase())) {
    return failure(`${what} is ${answers.length === 0 ? "without an answer" : told(answers.join(", "))}, expected ${health.answer}`);
  }
  return success(`${rcode}, ${answers.length} answer${answers.length === 1 ? "" : "s"}`);
}

function isSame(a: Question, b: Question | undefined): boolean {
  return a.type === b?.type && bare(a.name) === bare(b.name);
}

function bare(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

/** As zone files have it, as far as one record is one text. */
function textOf(answer: Answer): string {
  switch (answer.type) {
    case "A": case "AAAA": case "CNAME": case "NS": case "PTR": return answer.data;
    case "TXT": return (Array.isArray(answer.data) ? answer.data : [answer.data]).map(String).join("");
    case "MX": return `${answer.data.preference ?? 0} ${answer.data.exchange}`;
    case "SOA": return String(answer.data.serial);
    case "SRV": return `${answer.data.priority ?? 0} ${answer.data.weight ?? 0} ${answer.data.port} ${answer.data.target}`;
    default: return "";
  }
}
