/**
 * Long-lived `git cat-file` processes in a view directory: a missing object is "missing", nothing
 * is fetched, and none of a user's configuration is read. Requests of one process are answered in
 * order, so they are pipelined.
 *
 * Invariants
 *  1. An answer belongs to the oldest request without one.
 *  2. When the process ends, every request without an answer fails; the next starts another.
 */

import type { Oid } from "./oid.ts";
import { type GitOptions, spawnGit } from "./process.ts";
import type { HostPath } from "../path.ts";

export type ObjectType = "blob" | "tree" | "commit" | "tag";

export interface ObjectInfo {
  readonly type: ObjectType;
  readonly sizeBytes: number;
}

/** Takes the bytes of one object. `chunk` may be awaited: the process is not read meanwhile. */
export interface ObjectSink {
  start(info: ObjectInfo): void | Promise<void>;
  chunk(bytes: Uint8Array): void | Promise<void>;
}

interface Pending {
  readonly oid: Oid;
  readonly sink: ObjectSink | null;
  resolve(info: ObjectInfo | null): void;
  reject(error: unknown): void;
}

/**
 * Big blobs are streamed from the pack (streaming.c, istream_source), and of a big pack only a few
 * windows are mapped (packfile.c, use_pack).
 */
const LEAN_CONFIG = [
  "core.bigFileThreshold=1m",
  "core.packedGitWindowSize=4m",
  "core.packedGitLimit=32m",
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const NEWLINE = 10;

class CatFileEnded extends Error {
  override readonly name = "CatFileEnded";
}

/** Of a directory that is not ours: who to be there. */
export type CatFileOptions = Pick<GitOptions, "owner" | "workTree">;

/** One process. `mode` "contents" gives types, sizes and bytes; "check" types and sizes. */
export class CatFile {
  readonly #viewDir: HostPath;
  readonly #mode: "contents" | "check";
  readonly #options: CatFileOptions;
  #child: Deno.ChildProcess | null = null;
  #writer: WritableStreamDefaultWriter<Uint8Array> | null = null;
  #pending: Pending[] = [];
  #closed = false;

  constructor(viewDir: HostPath, mode: "contents" | "check", options: CatFileOptions = {}) {
    this.#viewDir = viewDir;
    this.#mode = mode;
    this.#options = options;
  }

  /** Requests without an answer. */
  get queued(): number {
    return this.#pending.length;
  }

  /** Null: missing. With "check" the sink is not used. Rejects when git fails. */
  request(oid: Oid, sink: ObjectSink | null = null): Promise<ObjectInfo | null> {
    return this.requestMany([oid], sink)[0] as Promise<ObjectInfo | null>;
  }

  /** One write for many requests. */
  requestMany(oids: readonly Oid[], sink: ObjectSink | null): Promise<ObjectInfo | null>[] {
    const answers = oids.map((oid) =>
      new Promise<ObjectInfo | null>((resolve, reject) => {
        this.#pending.push({ oid, sink, resolve, reject });
      })
    );
    try {
      if (this.#child === null) this.#start();
    } catch (error) {
      // No process, no answers: else the next one's would go to these.
      this.#fail(error);
    }
    // A failed write shows as the end of the process, which fails the requests.
    const command = this.#mode === "contents" ? "contents" : "info";
    const lines = oids.map((oid) => `${command} ${oid}\n`).join("");
    this.#writer?.write(encoder.encode(`${lines}flush\n`)).catch(() => {});
    return answers;
  }

  /** Ends the process; requests without an answer fail. */
  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    if (child === null) return;
    // Killed first: a git with a backlog would not read what is still to be written.
    this.#kill();
    await this.#writer?.abort().catch(() => {});
    await child.status;
  }

  #start(): void {
    if (this.#closed) {
      this.#fail(new CatFileEnded("closed"));
      return;
    }
    // Buffered until "flush": one write for the answers to many "info", not one each.
    const child = spawnGit(["cat-file", "--batch-command", "--buffer"], {
      ...this.#options,
      config: LEAN_CONFIG,
      gitDir: this.#viewDir,
      stdin: "piped",
      stderr: "null",
      probe: true,
    });
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    const input = new ByteReader(child.stdout);
    this.#readAnswers(input).catch((error) => error).then((error) => {
      input.cancel();
      if (this.#child === child) {
        this.#kill();
        this.#writer?.abort().catch(() => {});
        this.#child = null;
        this.#writer = null;
        this.#fail(error ?? new CatFileEnded("git cat-file has ended"));
      }
    });
  }

  #kill(): void {
    try {
      this.#child?.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }

  #fail(error: unknown): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const request of pending) request.reject(error);
  }

  async #readAnswers(input: ByteReader): Promise<void> {
    for (;;) {
      const line = await input.line();
      if (line === null) return;
      const request = this.#pending[0];
      if (request === undefined) throw new Error("git cat-file answered unasked");
      const [, type, size] = line.split(" ");
      if (size === undefined) {
        // `<oid> missing` (or ambiguous, which a full oid never is).
        this.#pending.shift();
        request.resolve(null);
        continue;
      }
      const info = { type: type as ObjectType, sizeBytes: Number(size) };
      if (this.#mode === "contents") {
        await request.sink?.start(info);
        await input.bytes(info.sizeBytes, async (chunk) => await request.sink?.chunk(chunk));
        await input.bytes(1, () => {});
      }
      this.#pending.shift();
      request.resolve(info);
    }
  }
}

/** Lines and counted bytes out of a stream. */
class ByteReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
  }

  /** Nothing is read any more. */
  cancel(): void {
    this.#reader.cancel().catch(() => {});
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    if (done) return false;
    this.#rest = value;
    return true;
  }

  /** Without its newline; null at the end. */
  async line(): Promise<string | null> {
    let text = "";
    for (;;) {
      const end = this.#rest.indexOf(NEWLINE);
      if (end >= 0) {
        text += decoder.decode(this.#rest.subarray(0, end));
        this.#rest = this.#rest.subarray(end + 1);
        return text;
      }
      text += decoder.decode(this.#rest);
      if (!await this.#more()) return null;
    }
  }

  /** Exactly `count` bytes, in pieces. Throws at the end of the stream. */
  async bytes(count: number, take: (chunk: Uint8Array) => void | Promise<void>): Promise<void> {
    let left = count;
    while (left > 0) {
      if (this.#rest.length === 0 && !await this.#more()) {
        throw new CatFileEnded("git cat-file ended inside an object");
      }
      const chunk = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(chunk.length);
      left -= chunk.length;
      const taken = take(chunk);
      if (taken !== undefined) await taken;
    }
  }
}

/** Collects an object in memory. */
export class CollectingSink implements ObjectSink {
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array();
  #at = 0;

  start(info: ObjectInfo): void {
    this.bytes = new Uint8Array(info.sizeBytes);
    this.#at = 0;
  }

  chunk(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }
}

/** Of several for the same, the one that is asked for least. */
export function leastBusy(readers: readonly CatFile[]): CatFile {
  let best = readers[0] as CatFile;
  for (const reader of readers) if (reader.queued < best.queued) best = reader;
  return best;
}
