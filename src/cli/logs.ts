/**
 * `afs logs`: what daemons in the background have written, rotated file first. The file is copied to
 * `<path>.1` and then cut (src/daemon/log_file.ts), so whoever follows it finds the rest of what it
 * has not read there.
 */

import { Command } from "commander";
import { systemClock } from "../clock.ts";
import { call, NoDaemon } from "../control/client.ts";
import { Failure, messageOf } from "../failure.ts";
import { type Layout, layoutOf } from "../repo/layout.ts";
import { endWhenAsked, printOn } from "./going_on.ts";
import { stateRoot } from "./host_paths.ts";
import { wholeNumber } from "./options.ts";
import { say } from "./output.ts";

const POLL_MS = 200;
/** A rotation between two reads is seldom, two in a row do not happen. */
const READ_TRIES = 5;

interface LogsOptions {
  readonly follow?: true;
  readonly lines?: number;
}

export function logsCommand(): Command {
  return new Command("logs")
    .description("print the log of the daemon in the background, also when it has ended")
    .option("-f, --follow", "go on with what comes, until Ctrl-C")
    .option("-n, --lines <lines>", "only the last lines (default: all)", wholeNumber(0))
    .action(logs);
}

async function logs({ follow, lines }: LogsOptions): Promise<void> {
  const layout = layoutOf(stateRoot());
  const { logPath } = layout;
  const pid = await foregroundPid(layout);
  const elsewhere =
    `the daemon (pid ${pid}) runs in the foreground, and logs to its standard error`;
  if (pid !== null && follow) throw new Failure("failed", `Cannot follow the log: ${elsewhere}`);
  const here = readAll(logPath);
  if (here === null) {
    const why = pid === null ? `there is none at ${logPath}` : elsewhere;
    throw new Failure("failed", `Cannot show the log: ${why}`);
  }
  if (pid !== null) say(`${elsewhere}; this is what earlier ones in the background have written`);
  if (follow) endWhenAsked();
  const text = here.older + here.newer;
  const shown = lines === undefined ? text : lastLines(text, lines);
  if (shown !== "") printOn(shown.replace(/\n$/, ""));
  if (follow) await followFile(logPath, here.newerBytes);
}

/** Of a daemon that does not log to the file; null: none runs, or it does. */
async function foregroundPid({ socketPath }: Layout): Promise<number | null> {
  try {
    const { pid, logPath } = await call(socketPath, "ping", {});
    return logPath === null ? pid : null;
  } catch (error) {
    if (error instanceof NoDaemon) return null;
    throw error;
  }
}

/** Null: there is no log. Throws Failure. */
function readAll(path: string): { older: string; newer: string; newerBytes: number } | null {
  for (let tries = 1;; tries++) {
    const before = modifiedAt(`${path}.1`);
    const older = readText(`${path}.1`, 0);
    const newer = readText(path, 0);
    // Else it was rotated in between.
    if (modifiedAt(`${path}.1`) !== before && tries < READ_TRIES) continue;
    if (older === null && newer === null) return null;
    return {
      older: older?.text ?? "",
      newer: newer?.text ?? "",
      newerBytes: newer?.end ?? 0,
    };
  }
}

function lastLines(text: string, count: number): string {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return count === 0 ? "" : lines.slice(-count).join("\n");
}

async function followFile(path: string, from: number): Promise<never> {
  let at = from;
  for (;;) {
    await systemClock.sleep(POLL_MS);
    const size = sizeOf(path);
    if (size < at) {
      const rest = sizeOf(`${path}.1`) > at ? readText(`${path}.1`, at) : null;
      if (rest !== null && rest.text !== "") printOn(rest.text.replace(/\n$/, ""));
      at = 0;
    }
    if (size === at) continue;
    const news = readText(path, at);
    if (news === null || news.text === "") continue;
    at = news.end;
    printOn(news.text.replace(/\n$/, ""));
  }
}

/** From a byte to the end of the last whole line, and where that is; null: no file. */
function readText(path: string, from: number): { text: string; end: number } | null {
  let bytes: Uint8Array;
  try {
    using file = Deno.openSync(path, { read: true });
    file.seekSync(from, Deno.SeekMode.Start);
    const parts: Uint8Array[] = [];
    for (;;) {
      const part = new Uint8Array(64 * 1024);
      const count = file.readSync(part);
      if (count === null) break;
      parts.push(part.subarray(0, count));
    }
    bytes = joined(parts);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw new Failure("fatal", `Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  const length = bytes.lastIndexOf(0x0a) + 1;
  return { text: new TextDecoder().decode(bytes.subarray(0, length)), end: from + length };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch {
    return 0;
  }
}

function modifiedAt(path: string): number {
  try {
    return Deno.statSync(path).mtime?.getTime() ?? 0;
  } catch {
    return 0;
  }
}
