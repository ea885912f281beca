// A probe that says PING to a Redis server, after AUTH where it has a password, and asks for its role where
// that matters. Knows RESP as far as these answers go. Must never let a password into a reason.

import type { RedisHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import { readSecret } from "./secret.ts";
import type { Aim, Doors } from "./socket.ts";
import { converse, openStream } from "./stream.ts";
import { told, withoutSecrets } from "./words.ts";

interface Question {
  readonly words: readonly string[];
  /** Why this answer is none that we want, or null: a line without its end, or an array's first element. */
  readonly judge: (line: string) => string | null;
}

export function probeRedis(doors: Doors, aim: Aim<RedisHealth>, attempt: Attempt): void {
  const { health } = aim;
  const password = health.password === null ? null : readSecret(doors, health.password);
  const questions = questionsOf(health, password);
  const tls = health.tls === null ? null : { ...health.tls, host: null, protocols: [] };
  openStream(doors, aim, tls, attempt, (stream) => {
    let at = 0;
    const ask = (): void => {
      const { words } = questions[at]!;
      attempt.stage = `waiting for the answer to ${words[0]!}`;
      stream.write(encode(words));
    };
    converse(stream, attempt, (heard) => {
      const question = questions[at];
      const line = question === undefined ? null : answerIn(heard);
      if (question === undefined || line === null) return 0;
      const complaint = question.judge(withoutSecrets(line, password === null ? [] : [password]));
      if (complaint !== null) {
        attempt.end(failure(complaint));
        return heard.length;
      }
      at += 1;
      if (at < questions.length) ask();
      else attempt.end(success(health.role === "any" ? "PONG" : `PONG, ${health.role}`));
      return heard.length;
    });
    ask();
  });
}

function questionsOf({ username, role }: RedisHealth, password: string | null): readonly Question[] {
  const questions: Question[] = [];
  if (password !== null) {
    const words = username === null ? ["AUTH", password] : ["AUTH", username, password];
    questions.push({ words, judge: (line) => (line === "+OK" ? null : refusalOfPassword(line)) });
  }
  questions.push({ words: ["PING"], judge: (line) => (line === "+PONG" ? null : refusal(line)) });
  // The last one, since the rest of its answer is not read.
  if (role !== "any") questions.push({ words: ["ROLE"], judge: (line) => judgeRole(line, role) });
  return questions;
}

/** Redis says slave still. */
function judgeRole(line: string, role: "master" | "replica"): string | null {
  if (!/^[a-z]+$/.test(line)) return refusal(line);
  const found = line === "slave" ? "replica" : line;
  return found === role ? null : `the server's role is ${found}, expected ${role}`;
}

function refusal(line: string): string {
  return line.startsWith("-") ? `the server answered ${told(line)}` : `not a Redis server: ${told(line)}`;
}

/** No word but the first: a server that does not know AUTH repeats the start of what came with it. */
function refusalOfPassword(line: string): string {
  const [word] = /^-[A-Z]+\b/.exec(line) ?? [];
  return word === undefined ? "not a Redis server: no answer of Redis to AUTH" : `the server answered ${word} to AUTH`;
}

function encode(words: readonly string[]): Buffer {
  const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return Buffer.from(`*${words.length}\r\n${parts.join("")}`);
}

/** Null: more has to come. */
function answerIn(heard: Buffer): string | null {
  const lines = heard.toString("latin1").split("\r\n");
  const [first = "", size = "", element = ""] = lines;
  if (lines.length < 2) return heard.length > LINE_MAX_BYTES ? first : null;
  if (!/^\*[1-9]\d*$/.test(first)) return first;
  if (lines.length < 4) return null;
  return /^\$\d+$/.test(size) ? element : size;
}

const LINE_MAX_BYTES = 1024;
