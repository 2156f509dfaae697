/**
 * The daemon's side of the socket.
 *
 * Invariants
 *  1. Only the holder of daemon.lock serves, so a socket file that exists is stale and is replaced.
 *  2. The socket is 0600 from the moment it exists: it is made under umask 177.
 *  3. Every request gets exactly one `result` or `failure`, unless its client is gone.
 *  4. An operation whose client is gone is aborted; nobody would learn what became of it.
 *  5. Nobody waits for a client: lines for it are kept, MAX_LINES at most.
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
import type { EventLine } from "./events.ts";
import { answerPage, type Pages } from "./pages.ts";
import { checkSocketPath } from "./socket_path.ts";

export interface Context {
  /** Aborted when the client is gone, cancels, or the daemon stops. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Omit<Progress, "kind">) => void;
}

/** Of `events`. */
export interface EventContext extends Context {
  /** False: it was not taken, since the client is gone, or does not read what it was sent. */
  readonly onEvent: (event: EventLine) => boolean;
}

export type Handlers = {
  readonly [V in Exclude<Verb, "cancel">]: (
    params: Params<V>,
    context: V extends "events" ? EventContext : Context,
  ) => Promise<Result<V>>;
};

/** Longer ones are no requests of ours. */
const MAX_BODY_BYTES = 64 * 1024;
/** Lines that a client has not read: beyond them it gets no event. */
const MAX_LINES = 1000;

/** They go on until the daemon has done what it does when it stops. */
const LASTING: ReadonlySet<Verb> = new Set(["shutdown", "events"]);

interface Operation {
  readonly verb: Verb;
  readonly controller: AbortController;
  /** Resolves with its last line. */
  readonly ended: Promise<void>;
}

export class ControlServer {
  readonly #handlers: Handlers;
  readonly #server: Deno.HttpServer;
  readonly #pages: Pages | null;
  readonly #operations = new Map<string, Operation>();
  readonly #log = logger("control");
  #stopping = false;

  /** Listens. The caller holds daemon.lock. Throws Failure (fatal). */
  constructor(socketPath: string, handlers: Handlers, pages: Pages | null = null) {
    this.#handlers = handlers;
    this.#pages = pages;
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

  /**
   * From now on every verb is refused, and what runs is aborted, but for those of LASTING. Waits
   * for the ends of the others at most so long. Never throws.
   */
  async drain(graceMs: number): Promise<void> {
    this.#stopping = true;
    const others = [...this.#operations.values()].filter(({ verb }) => !LASTING.has(verb));
    for (const { controller } of others) controller.abort(stopping());
    await atMost(graceMs, Promise.all(others.map(({ ended }) => ended)));
  }

  /** Aborts what runs, waits for the answers at most so long, and closes. Never throws. */
  async close(graceMs: number): Promise<void> {
    this.#stopping = true;
    for (const { controller } of this.#operations.values()) controller.abort(stopping());
    await atMost(graceMs, this.#server.shutdown().catch(() => {}));
  }

  async #answer(request: globalThis.Request): Promise<Response> {
    const page = this.#pages === null ? null : await answerPage(request, this.#pages);
    if (page !== null) return page;
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
        operation?.controller.abort(interrupted());
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
    const { signal } = controller;
    const ended = Promise.withResolvers<void>();
    this.#operations.set(operation, { verb, controller, ended: ended.promise });
    let send: (line: AnswerLine) => void = () => {};
    const body = new ReadableStream<Uint8Array>({
      start: (stream) => {
        send = (line) => {
          if (!signal.aborted || line.kind !== "progress") stream.enqueue(encode(line));
        };
        const finish = (line: AnswerLine) => {
          this.#operations.delete(operation);
          ended.resolve();
          try {
            send(line);
            stream.close();
          } catch {
            // The client is gone: the stream is closed already.
          }
        };
        const context = {
          signal,
          onEvent: (event: EventLine) => {
            if (signal.aborted || (stream.desiredSize ?? 0) <= 0) return false;
            send({ kind: "event", ...event });
            return true;
          },
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
            // That is how a stream of events ends.
            const isEnd = verb === "events" && signal.aborted;
            if (error instanceof Failure) this.#log[isEnd ? "debug" : "info"](REFUSED, fields);
            else this.#log.error("Could not answer a request", fields);
            finish({ kind: "failure", failure });
          },
        );
      },
      // The client has gone away.
      cancel: () => controller.abort(interrupted()),
    }, new CountQueuingStrategy({ highWaterMark: MAX_LINES }));
    return new Response(body, { headers: HEADERS });
  }
}

const REFUSED = "Refused a request";
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

/** The reason of an abort by the daemon. */
function stopping(): Failure {
  return new Failure("failed", "Cannot go on: the daemon is stopping; try again");
}

async function atMost(graceMs: number, work: Promise<unknown>): Promise<void> {
  const grace = Promise.withResolvers<void>();
  const timer = setTimeout(grace.resolve, graceMs);
  await Promise.race([work, grace.promise]);
  clearTimeout(timer);
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
