/** The CLI's side of the socket. node:http, because `fetch` needs an unstable flag for sockets. */

import http from "node:http";
import { Buffer } from "node:buffer";
import { safeParse } from "valibot";
import { Failure, messageOf } from "../failure.ts";
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

export interface CallOptions {
  readonly onProgress?: (progress: Progress) => void;
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
  await probe(socketPath);
  const operation = crypto.randomUUID();
  const onAbort = () => {
    // Whether it is found or not: the answer to the operation itself says how it ended.
    call(socketPath, "cancel", { operation }).catch(() => {});
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const body = JSON.stringify({ version: API_VERSION, operation, params });
    return parseResult(verb, await exchange(socketPath, verb, body, options.onProgress));
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/**
 * Whether anybody listens. Apart, because node:http leaks a stream in Deno when a connection is
 * refused. Throws NoDaemon, Failure (fatal).
 */
async function probe(socketPath: string): Promise<void> {
  try {
    (await Deno.connect({ transport: "unix", path: socketPath })).close();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw isAbsent(error) ? new NoDaemon(messageOf(error)) : connectFailure(socketPath, error);
  }
}

/** Sends one request and reads its answer. */
function exchange(
  socketPath: string,
  verb: Verb,
  body: string,
  onProgress: CallOptions["onProgress"],
): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  const request = http.request(
    { socketPath, path: `/v1/${verb}`, method: "POST", headers, agent: false },
    (response) => {
      // It is stopping: for the caller the same as none.
      if (response.statusCode === 503) reject(new NoDaemon("the daemon is stopping"));
      const read = lineReader((line) => {
        const answer = parseLine(line);
        if (answer.kind === "progress") onProgress?.(answer);
        else if (answer.kind === "result") resolve(answer.result);
        else reject(new Failure(answer.failure.kind, answer.failure.message));
      });
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        try {
          read(part);
        } catch (error) {
          reject(error);
          request.destroy();
        }
      });
      response.on("end", () => reject(ended()));
      response.on("error", () => reject(ended()));
      response.on("close", () => reject(ended()));
    },
  );
  request.on("error", (error: Error & { code?: string }) => {
    reject(isAbsent(error) ? new NoDaemon(messageOf(error)) : connectFailure(socketPath, error));
  });
  request.end(body);
  return promise;
}

function isAbsent(error: Error & { code?: string }): boolean {
  return error instanceof Deno.errors.NotFound || error.code === "ENOENT" ||
    error.code === "ECONNREFUSED" ||
    error instanceof Deno.errors.ConnectionRefused ||
    /os error (?:2|111|61)\b/.test(error.message);
}

function connectFailure(socketPath: string, error: Error & { code?: string }): Failure {
  if (
    error instanceof Deno.errors.PermissionDenied || error.code === "EACCES" ||
    /os error 13\b/.test(error.message)
  ) {
    return new Failure(
      "fatal",
      `Cannot use ${socketPath}: it belongs to another user; run afs as that user, or set ` +
        "ARTIFACT_FS_ROOT to a folder of yours",
    );
  }
  return /reset|hang ?up|closed|EPIPE/i.test(`${error.code} ${error.message}`)
    ? ended()
    : new Failure("fatal", `Cannot reach the daemon at ${socketPath}: ${error.message}`);
}

function ended(): Failure {
  return new Failure("fatal", "Cannot go on: the daemon has ended before it answered; see its log");
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

/** Calls `onLine` for each whole line of a text that comes in parts. */
export function lineReader(onLine: (line: string) => void): (part: string) => void {
  let rest = "";
  return (part) => {
    const all = (rest + part).split("\n");
    rest = all.pop() ?? "";
    for (const line of all) if (line !== "") onLine(line);
  };
}
