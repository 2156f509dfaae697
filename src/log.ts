/**
 * The log: one JSON object per line on standard error, of every thread of the daemon.
 *
 *     time    ISO 8601, UTC
 *     level   trace | debug | info | warning | error | fatal
 *     part    which part of the program: daemon, control, mount, hydrate, ...
 *     msg     a fixed sentence; what varies is in the fields
 *     repo    name of the repository it is about, if any
 *     ...     further fields, flat
 *
 * Invariants
 *  1. One line is one write(2): threads share the descriptor, and O_APPEND keeps lines whole.
 *  2. Nothing is written that `redact` would change.
 *  3. Logging never throws: a full disk or a closed pipe costs a line, nothing else.
 */

import {
  configureSync,
  getConfig,
  getLogger,
  type Logger,
  type LogLevel,
  type LogRecord,
} from "@logtape/logtape";
import { redact } from "./redact.ts";

export type { Logger, LogLevel };

const ROOT = "afs";
const RESERVED: ReadonlySet<string> = new Set(["time", "level", "part", "msg"]);
/** A line stays below PIPE_BUF in all but odd cases, so that pipes do not interleave it either. */
const MAX_TEXT_LENGTH = 1000;

const utf8 = new TextEncoder();

/** From the most to the least that is written. */
export const LOG_LEVELS = ["trace", "debug", "info", "warning", "error", "fatal"] as const;

/** Of this thread. */
let level: LogLevel = "info";
let write: (line: string) => void = writeStderr;

/** Configures the log of this thread. A second call does nothing. */
export function setupLog(
  options: { readonly level?: LogLevel; readonly write?: (line: string) => void } = {},
): void {
  if (getConfig() !== null) return;
  write = options.write ?? writeStderr;
  setLogLevel(options.level ?? level);
}

/** What this thread writes from now on. Each thread is told by itself. */
export function setLogLevel(lowestLevel: LogLevel): void {
  level = lowestLevel;
  configureSync({
    reset: true,
    sinks: { stderr: (record: LogRecord) => write(formatRecord(record)) },
    loggers: [
      { category: [ROOT], lowestLevel, sinks: ["stderr"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["stderr"] },
    ],
  });
}

export function logLevel(): LogLevel {
  return level;
}

/** `logger("hydrate").info("Hydrated blobs", { repo, blobs: 3 })`. */
export function logger(part: string): Logger {
  return getLogger([ROOT, part]);
}

/** A record as one line with its newline. */
export function formatRecord(record: LogRecord): string {
  const line: Record<string, unknown> = {
    time: new Date(record.timestamp).toISOString(),
    level: record.level,
    part: record.category.at(-1) ?? ROOT,
    msg: textOf(record),
  };
  const { repo, ...fields } = record.properties;
  if (repo !== undefined) line["repo"] = plain(repo);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined && !RESERVED.has(name)) line[name] = plain(value);
  }
  return `${JSON.stringify(line)}\n`;
}

function textOf(record: LogRecord): string {
  const raw = record.rawMessage;
  return clean(typeof raw === "string" ? raw : raw.join(""));
}

/** Something JSON can hold, without secrets. */
function plain(value: unknown): unknown {
  if (typeof value === "string") return clean(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return clean(value.message);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
  }
  return value;
}

function clean(text: string): string {
  const safe = redact(text);
  return safe.length > MAX_TEXT_LENGTH ? `${safe.slice(0, MAX_TEXT_LENGTH)}…` : safe;
}

function writeStderr(line: string): void {
  const bytes = utf8.encode(line);
  try {
    for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
  } catch {
    // Invariant 3.
  }
}
