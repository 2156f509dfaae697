/**
 * The HTTP/1.1 server side of one connection: heads, bodies, deadlines, and hanging up. Knows no
 * git.
 */
import { concat } from "./run.ts";

/** The connection ended, by us or by the client. */
export class Gone extends Error {
  override name = "Gone";
}

export interface RequestHead {
  method: string;
  target: string;
  /** Names in lower case. */
  headers: Map<string, string>;
  keepAlive: boolean;
  /** null = chunked. */
  contentLength: number | null;
}

export class Connection {
  number = 0;
  readonly signal: AbortSignal;
  readonly #conn: Deno.TcpConn;
  readonly #abort = new AbortController();
  readonly #gone = Promise.withResolvers<never>();
  #buffer: Uint8Array = new Uint8Array();
  #pending: Promise<boolean> | null = null;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.signal = this.#abort.signal;
    this.#gone.promise.catch(() => {});
  }

  /** Closes it at once; whatever waits on it ends with Gone. */
  end(): void {
    if (this.signal.aborted) return;
    this.#abort.abort();
    this.#gone.reject(new Gone());
    this.#conn.close();
  }

  /** The promise's value, or Gone when the connection is closed first. */
  orGone<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#gone.promise]);
  }

  /** As orGone, and notices when the client hangs up. Only where the client has nothing to send. */
  watching<T>(promise: Promise<T>): Promise<T> {
    if (this.#buffer.length === 0) {
      this.#fill().then((more) => {
        if (!more) this.end();
      });
    }
    return this.orGone(promise);
  }

  async sleep(ms: number): Promise<void> {
    await this.orGone(sleepUntil(performance.now() + ms, this.signal));
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) {
        at += await this.orGone(this.#conn.write(bytes.subarray(at)));
      }
    } catch {
      this.end();
      throw new Gone();
    }
  }

  /** One more piece into the buffer; false at the end. Concurrent calls share one read. */
  #fill(): Promise<boolean> {
    this.#pending ??= (async () => {
      const piece = new Uint8Array(65536);
      const n = await this.#conn.read(piece).catch(() => null);
      this.#pending = null;
      if (n === null) return false;
      this.#buffer = this.#buffer.length === 0
        ? piece.subarray(0, n)
        : concat([this.#buffer, piece.subarray(0, n)]);
      return true;
    })();
    return this.#pending;
  }

  #take(count: number): Uint8Array {
    const taken = this.#buffer.subarray(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return taken;
  }

  /** null at a clean end between two requests. Throws Gone on anything that is not HTTP/1.1. */
  async readHead(): Promise<RequestHead | null> {
    const lines: string[] = [];
    for (;;) {
      const line = await this.#line(lines.length === 0);
      if (line === null) return null;
      if (line !== "") lines.push(line);
      else if (lines.length > 0) break;
    }
    const [, method, target, version] = /^([A-Z]+) (\S+) HTTP\/(1\.[01])$/.exec(lines[0] ?? "") ??
      [];
    if (method === undefined || target === undefined) throw new Gone();
    const headers = new Map<string, string>();
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(":");
      headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
    const chunked = /chunked/i.test(headers.get("transfer-encoding") ?? "");
    return {
      method,
      target,
      headers,
      keepAlive: version === "1.1" && !/close/i.test(headers.get("connection") ?? ""),
      contentLength: chunked ? null : Number(headers.get("content-length") ?? 0),
    };
  }

  async #line(mayEnd: boolean): Promise<string | null> {
    for (;;) {
      const end = this.#buffer.indexOf(10);
      if (end >= 0) {
        const line = new TextDecoder("latin1").decode(this.#take(end + 1));
        return line.replace(/\r?\n$/, "");
      }
      if (this.#buffer.length > 1 << 20) throw new Gone();
      if (!await this.#fill()) {
        if (mayEnd && this.#buffer.length === 0) return null;
        throw new Gone();
      }
    }
  }

  /** The request's body without chunked framing; content encodings are left as they are. */
  async *body(head: RequestHead): AsyncGenerator<Uint8Array, void, void> {
    if (head.contentLength !== null) return yield* this.#exactly(head.contentLength);
    for (;;) {
      const size = parseInt(await this.#line(false) ?? "", 16);
      if (Number.isNaN(size)) throw new Gone();
      if (size === 0) break;
      yield* this.#exactly(size);
      await this.#line(false);
    }
    while (await this.#line(false) !== "") { /* trailers */ }
  }

  async *#exactly(count: number): AsyncGenerator<Uint8Array, void, void> {
    for (let left = count; left > 0;) {
      if (this.#buffer.length === 0 && !await this.#fill()) throw new Gone();
      const piece = this.#take(Math.min(left, this.#buffer.length));
      left -= piece.length;
      yield piece;
    }
  }
}

const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  302: "Found",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

export function responseHead(status: number, headers: [string, string][]): Uint8Array {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return encode(`HTTP/1.1 ${status} ${REASONS[status] ?? "Status"}\r\n${lines}\r\n`);
}

export function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Ends early when the signal aborts, so that no timer outlives its connection. */
export function sleepUntil(at: number, signal: AbortSignal): Promise<void> {
  const ms = at - performance.now();
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
