/**
 * The daemon's side of the socket.
 *
 * Invariants
 *  1. Only the holder of daemon.lock serves, so a socket file that exists is stale and is replaced.
 *  2. The socket is 0600 from the moment it exists: it is made under umask 177.
 *  3. Every request gets exactly one `result` or `failure`, unless its client is gone.
 *  4. An operation whose client is gone is aborted; nobody would learn what became of it.
 */

import { Failure, type FailureKind, messageOf } from "../failure.ts";
import { logger } from "../log.ts";
import { redact } from "../redact.ts";
import {
  type AnswerLine,
  isVerb,
  type Params,
  parseRequest,
  type Progress,
  type Result,
  type Verb,
} from "./api.ts";
import { checkSocketPath } from "./socket_path.ts";

export interface Context {
  /** Aborted when the client is gone, cancels, or the daemon stops. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Omit<Progress, "kind">) => void;
}

export type Handlers = {
  readonly [V in Exclude<Verb, "cancel">]: (
    params: Params<V>,
    context: Context,
  ) => Promise<Result<V>>;
};

/** Longer ones are no requests of ours. */
const MAX_BODY_BYTES = 64 * 1024;

export class ControlServer {
  readonly #handlers: Handlers;
  readonly #server: Deno.HttpServer;
  readonly #operations = new Map<string, AbortController>();
  readonly #log = logger("control");
  #stopping = false;

  /** Listens. The caller holds daemon.lock. Throws Failure (fatal). */
  constructor(socketPath: string, handlers: Handlers) {
    this.#handlers = handlers;
    checkSocketPath(socketPath);
    try {
      Deno.removeSync(socketPath);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw listenFailure(socketPath, error);
    }
    const umask = Deno.umask(0o177);
    try {
      this.#server = Deno.serve(
        { transport: "unix", path: socketPath, onListen: () => {}, onError: answerError },
        (request) => this.#answer(request),
      );
    } catch (error) {
      throw listenFailure(socketPath, error);
    } finally {
      Deno.umask(umask);
    }
  }

  /** Aborts what runs, waits for the answers at most so long, and closes. Never throws. */
  async close(graceMs: number): Promise<void> {
    this.#stopping = true;
    const reason = new Failure("failed", "Cannot go on: the daemon is stopping; try again");
    for (const operation of this.#operations.values()) operation.abort(reason);
    const grace = Promise.withResolvers<void>();
    const timer = setTimeout(grace.resolve, graceMs);
    await Promise.race([this.#server.shutdown().catch(() => {}), grace.promise]);
    clearTimeout(timer);
  }

  async #answer(request: globalThis.Request): Promise<Response> {
    const verb = /^\/v1\/([a-z-]+)$/.exec(new URL(request.url).pathname)?.[1] ?? "";
    if (!isVerb(verb)) {
      return failed(404, new Failure("usage", "Cannot answer: there is no such verb in this afs"));
    }
    if (request.method !== "POST") return failed(405, new Failure("usage", "Cannot answer: POST"));
    try {
      const body = await readBody(request);
      if (verb === "cancel") {
        const { params } = parseRequest(verb, body);
        const operation = this.#operations.get(params.operation);
        operation?.abort(interrupted());
        return lines(200, [{ kind: "result", result: { found: operation !== undefined } }]);
      }
      const { operation, params } = parseRequest(verb, body);
      return this.#run(verb, operation, params);
    } catch (error) {
      return failed(400, error);
    }
  }

  #run<V extends Exclude<Verb, "cancel">>(
    verb: V,
    operation: string,
    params: Params<V>,
  ): Response {
    if (this.#stopping) {
      return failed(503, new Failure("failed", "Cannot start: the daemon is stopping; try again"));
    }
    const controller = new AbortController();
    this.#operations.set(operation, controller);
    let send: (line: AnswerLine) => void = () => {};
    const body = new ReadableStream<Uint8Array>({
      start: (stream) => {
        send = (line) => {
          if (!controller.signal.aborted || line.kind !== "progress") stream.enqueue(encode(line));
        };
        const finish = (line: AnswerLine) => {
          this.#operations.delete(operation);
          try {
            send(line);
            stream.close();
          } catch {
            // The client is gone: the stream is closed already.
          }
        };
        const context = {
          signal: controller.signal,
          onProgress: (progress: Omit<Progress, "kind">) => {
            try {
              send({ kind: "progress", ...progress });
            } catch {
              // As above; `cancel` aborts.
            }
          },
        };
        this.#handlers[verb](params, context).then(
          (result) => finish({ kind: "result", result }),
          (error) => {
            const failure = failureOf(error);
            const fields = { verb, kind: failure.kind, error: failure.message };
            if (error instanceof Failure) this.#log.info("Refused a request", fields);
            else this.#log.error("Could not answer a request", fields);
            finish({ kind: "failure", failure });
          },
        );
      },
      // The client has gone away.
      cancel: () => controller.abort(interrupted()),
    });
    return new Response(body, { headers: HEADERS });
  }
}

const HEADERS = { "content-type": "application/x-ndjson" };
const utf8 = new TextEncoder();

function encode(line: AnswerLine): Uint8Array<ArrayBuffer> {
  return utf8.encode(`${JSON.stringify(line)}\n`);
}

function lines(status: number, answer: readonly AnswerLine[]): Response {
  const text = answer.map((line) => `${JSON.stringify(line)}\n`).join("");
  return new Response(text, { status, headers: HEADERS });
}

function failed(status: number, error: unknown): Response {
  return lines(status, [{ kind: "failure", failure: failureOf(error) }]);
}

function answerError(error: unknown): Response {
  return failed(500, error);
}

/** The reason of an abort by a client. */
function interrupted(): Failure {
  return new Failure("failed", "Cannot go on: it was interrupted");
}

function failureOf(error: unknown): { kind: FailureKind; message: string } {
  const message = redact(messageOf(error)).replaceAll(/\s*\n\s*/g, " ");
  if (error instanceof Failure) return { kind: error.kind, message };
  return { kind: "failed", message: `Cannot do this: ${message}` };
}

async function readBody(request: globalThis.Request): Promise<unknown> {
  let text = "";
  for await (const part of (request.body ?? new ReadableStream()).pipeThrough(decoder())) {
    text += part;
    if (text.length > MAX_BODY_BYTES) throw new Failure("usage", "Cannot read a request so long");
  }
  try {
    return JSON.parse(text);
  } catch {
    // Its text may hold a secret, so the parser's message is not passed on.
    throw new Failure("usage", "Cannot read the request: it is not JSON");
  }
}

function decoder(): TransformStream<Uint8Array<ArrayBuffer>, string> {
  return new TextDecoderStream();
}

function listenFailure(socketPath: string, error: unknown): Failure {
  return new Failure("fatal", `Cannot listen on ${socketPath}: ${messageOf(error)}`, {
    cause: error,
  });
}
