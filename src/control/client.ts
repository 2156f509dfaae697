/**
 * The CLI's side of the socket: one request of HTTP/1.0 a connection, whose answer ends with it.
 *
 * Written by hand: `fetch` needs an unstable flag for sockets, and node:http of Deno 2.7 says
 * nothing when a server is killed before it answers, so a verb would wait for ever.
 */

import { safeParse } from "valibot";
import { Failure, messageOf } from "../failure.ts";
import type { EventLine } from "./events.ts";
import { checkSocketPath } from "./socket_path.ts";
import {
  AnswerLine,
  API_VERSION,
  type Params,
  parseResult,
  type Progress,
  type Result,
  type Verb,
} from "./api.ts";

/** Nobody listens on the socket, or only a daemon that is stopping. */
export class NoDaemon extends Error {
  override readonly name = "NoDaemon";
}

/** It was killed, or has crashed: what became of the request is not known. */
export class DaemonEnded extends Failure {
  constructor() {
    super("fatal", "Cannot go on: the daemon has ended before it answered; see its log");
  }
}

export interface CallOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** The daemon has taken the request, and may do something from here on. */
  readonly onBegun?: () => void;
  readonly onEvent?: (event: EventLine) => void;
  /** Aborted: the daemon is asked to cancel, and the call ends with the daemon's last word. */
  readonly signal?: AbortSignal;
}

/**
 * Asks the daemon. Throws Failure (what the daemon says; fatal when it ends without an answer), or
 * NoDaemon when none listens.
 */
export async function call<V extends Verb>(
  socketPath: string,
  verb: V,
  params: Params<V>,
  options: CallOptions = {},
): Promise<Result<V>> {
  checkSocketPath(socketPath);
  const operation = crypto.randomUUID();
  const onAbort = () => {
    // Whether it is found or not: the answer to the operation itself says how it ended.
    call(socketPath, "cancel", { operation }).catch(() => {});
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const body = JSON.stringify({ version: API_VERSION, operation, params });
    return parseResult(verb, await exchange(socketPath, verb, body, options));
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** Sends one request and reads its answer. Throws NoDaemon, Failure. */
async function exchange(
  socketPath: string,
  verb: Verb,
  body: string,
  { onProgress, onBegun, onEvent }: CallOptions,
): Promise<unknown> {
  const bytes = new TextEncoder().encode(body);
  const head = `POST /v1/${verb} HTTP/1.0\r\nHost: afs\r\nContent-Type: application/json\r\n` +
    `Content-Length: ${bytes.length}\r\n\r\n`;
  using connection = await connect(socketPath);
  try {
    await writeAll(connection, new TextEncoder().encode(head));
    await writeAll(connection, bytes);
    for await (const line of answerLines(connection, onBegun)) {
      const answer = parseLine(line);
      if (answer.kind === "result") return answer.result;
      if (answer.kind === "failure") throw new Failure(answer.failure.kind, answer.failure.message);
      if (answer.kind === "event") onEvent?.(answer);
      else onProgress?.(answer);
    }
  } catch (error) {
    // What a connection that breaks throws has no one class.
    if (error instanceof Failure || error instanceof NoDaemon) throw error;
  }
  throw new DaemonEnded();
}

async function connect(socketPath: string): Promise<Deno.UnixConn> {
  try {
    return await Deno.connect({ transport: "unix", path: socketPath });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw isAbsent(error) ? new NoDaemon(messageOf(error)) : connectFailure(socketPath, error);
  }
}

async function writeAll(connection: Deno.UnixConn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
}

/** The lines of the body; the head is looked at and left out. Throws NoDaemon. */
async function* answerLines(
  connection: Deno.UnixConn,
  onBegun: (() => void) | undefined,
): AsyncGenerator<string> {
  let rest = "";
  let inHead = true;
  for await (const text of connection.readable.pipeThrough(new TextDecoderStream())) {
    rest += text;
    if (inHead) {
      const end = rest.indexOf("\r\n\r\n");
      if (end < 0) continue;
      // It is stopping: for the caller the same as none.
      if (/^HTTP\/1\.\d 503 /.test(rest)) throw new NoDaemon("the daemon is stopping");
      rest = rest.slice(end + 4);
      inHead = false;
      onBegun?.();
    }
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines.filter((line) => line !== "");
  }
}

function isAbsent(error: Error): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
}

function connectFailure(socketPath: string, error: Error): Failure {
  if (error instanceof Deno.errors.PermissionDenied) {
    return new Failure(
      "fatal",
      `Cannot use ${socketPath}: it belongs to another user; run afs as that user, or set ` +
        "ARTIFACT_FS_ROOT to a folder of yours",
    );
  }
  return new Failure("fatal", `Cannot reach the daemon at ${socketPath}: ${error.message}`);
}

function parseLine(line: string): AnswerLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = null;
  }
  const parsed = safeParse(AnswerLine, value);
  if (parsed.success) return parsed.output;
  throw new Failure(
    "fatal",
    "Cannot read the daemon's answer: it is of another version; end it, and use one version of afs",
  );
}
