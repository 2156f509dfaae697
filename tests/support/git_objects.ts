/**
 * Git objects made in this process: blobs, trees (also wrong ones), commits and tags, written as
 * one pack through `git index-pack`, so that names can be any bytes and 10,000 files cost no 10,000
 * processes. Names and paths are byte strings (see raw_fs.ts).
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { concat, gitBaseEnv } from "./run.ts";

export type ByteString = string;
export type ObjectFormat = "sha1" | "sha256";
export type ObjectType = "commit" | "tree" | "blob" | "tag";

/**
 * One path of a tree: git's mode as it should be read (100644, 100755, 120000, 160000, 40000) and
 * oid.
 */
export interface TreePath {
  path: ByteString;
  mode: string;
  oid: string;
}

const TYPE_CODES: Readonly<Record<ObjectType, number>> = { commit: 1, tree: 2, blob: 3, tag: 4 };
const EPOCH = 1_700_000_000;

/** A text literal as the byte string of its UTF-8 form. */
export function utf8(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1");
}

export function latin1(text: ByteString): Uint8Array {
  return Buffer.from(text, "latin1");
}

export function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The name git gives an object with this content. */
export function objectOid(type: ObjectType, body: Uint8Array, format: ObjectFormat): string {
  return createHash(format).update(`${type} ${body.length}\0`).update(body).digest("hex");
}

export function packEntryHeader(type: ObjectType, size: number): Uint8Array {
  const bytes: number[] = [];
  let rest = Math.floor(size / 16);
  let byte = (TYPE_CODES[type] << 4) | (size % 16);
  while (rest > 0) {
    bytes.push(byte | 0x80);
    byte = rest % 128;
    rest = Math.floor(rest / 128);
  }
  bytes.push(byte);
  return Uint8Array.from(bytes);
}

export function packHeader(count: number): Uint8Array {
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0x5041434b);
  view.setUint32(4, 2);
  view.setUint32(8, count);
  return header;
}

/** `git index-pack` with a pack streamed into it; the trailing checksum is added here. */
export class PackSink {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #hash: Hash;
  readonly #output: Promise<Deno.CommandOutput>;
  constructor(gitDir: string, format: ObjectFormat) {
    const child = new Deno.Command("git", {
      args: ["-C", gitDir, "-c", "core.bigFileThreshold=1m", "index-pack", "--stdin"],
      clearEnv: true,
      env: gitBaseEnv(),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = child.stdin.getWriter();
    this.#hash = createHash(format);
    this.#output = (async () => {
      const [stdout, stderr, status] = await Promise.all([
        new Response(child.stdout).bytes(),
        new Response(child.stderr).bytes(),
        child.status,
      ]);
      return { stdout, stderr, ...status };
    })();
    this.#writer.closed.catch(() => {});
  }
  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    try {
      await this.#writer.write(bytes);
    } catch {
      await this.#fail();
    }
  }
  async finish(): Promise<void> {
    try {
      await this.#writer.write(this.#hash.digest());
      await this.#writer.close();
    } catch {
      await this.#fail();
    }
    if (!(await this.#output).success) await this.#fail();
  }
  async #fail(): Promise<never> {
    const { code, stderr } = await this.#output;
    throw new Error(`git index-pack: exit code ${code}: ${new TextDecoder().decode(stderr)}`);
  }
}

/** Collects objects for one repository; an object given twice is stored once. */
export class ObjectWriter {
  readonly format: ObjectFormat;
  readonly #known = new Set<string>();
  readonly #parts: Uint8Array[] = [];
  #count = 0;

  constructor(format: ObjectFormat = "sha1") {
    this.format = format;
  }

  add(type: ObjectType, body: Uint8Array): string {
    const oid = objectOid(type, body, this.format);
    if (!this.#known.has(oid)) {
      this.#known.add(oid);
      this.#parts.push(packEntryHeader(type, body.length), deflateSync(body, { level: 1 }));
      this.#count++;
    }
    return oid;
  }

  /** A blob of bytes, or of text in UTF-8. */
  blob(content: Uint8Array | string): string {
    return this.add("blob", typeof content === "string" ? encode(content) : content);
  }

  /** A tree with exactly these entries in exactly this order, however wrong. */
  rawTree(entries: readonly { mode: string; name: ByteString; oid: string }[]): string {
    return this.add(
      "tree",
      concat(entries.flatMap(({ mode, name, oid }) => [
        latin1(`${mode} ${name}\0`),
        Uint8Array.from(Buffer.from(oid, "hex")),
      ])),
    );
  }

  /**
   * `sequence` sets the date: that many hours after the first commit of every generated repository.
   */
  commit(tree: string, parents: readonly string[], sequence: number, message: string): string {
    const at = `${EPOCH + sequence * 3600} +0000`;
    return this.add(
      "commit",
      encode([
        `tree ${tree}`,
        ...parents.map((parent) => `parent ${parent}`),
        `author A U Thor <author@example.com> ${at}`,
        `committer C O Mitter <committer@example.com> ${at}`,
        "",
        message + "\n",
      ].join("\n")),
    );
  }

  tag(object: string, type: ObjectType, name: string, sequence: number): string {
    const at = `${EPOCH + sequence * 3600} +0000`;
    return this.add(
      "tag",
      encode(
        `object ${object}\ntype ${type}\ntag ${name}\n` +
          `tagger C O Mitter <committer@example.com> ${at}\n\n${name}\n`,
      ),
    );
  }

  /** Writes everything into the repository as one pack. Throws when git refuses it. */
  async flush(gitDir: string): Promise<void> {
    const sink = new PackSink(gitDir, this.format);
    await sink.write(packHeader(this.#count));
    let batch: Uint8Array[] = [];
    let size = 0;
    for (const part of this.#parts) {
      batch.push(part);
      size += part.length;
      if (size < 1 << 20) continue;
      await sink.write(concat(batch));
      batch = [];
      size = 0;
    }
    await sink.write(concat(batch));
    await sink.finish();
  }
}

/** A tree under construction: paths with "/" between names, each name any bytes but "/" and NUL. */
export class TreeBuilder {
  readonly #entries = new Map<ByteString, TreeBuilder | { mode: string; oid: string }>();
  /** What it was when it was written last; null: something was put or removed since. */
  #written: { readonly writer: ObjectWriter; readonly oid: string } | null = null;

  put(path: ByteString, mode: string, oid: string): this {
    this.#written = null;
    const slash = path.indexOf("/");
    if (slash < 0) {
      this.#entries.set(path, { mode, oid });
      return this;
    }
    const name = path.slice(0, slash);
    let child = this.#entries.get(name);
    if (!(child instanceof TreeBuilder)) this.#entries.set(name, child = new TreeBuilder());
    child.put(path.slice(slash + 1), mode, oid);
    return this;
  }

  remove(path: ByteString): this {
    this.#written = null;
    const slash = path.indexOf("/");
    if (slash < 0) this.#entries.delete(path);
    else {
      const child = this.#entries.get(path.slice(0, slash));
      if (child instanceof TreeBuilder) child.remove(path.slice(slash + 1));
    }
    return this;
  }

  /** Writes it and its subtrees in git's order; returns the root's oid. */
  write(writer: ObjectWriter): string {
    if (this.#written?.writer === writer) return this.#written.oid;
    const entries = [...this.#entries].map(([name, entry]) =>
      entry instanceof TreeBuilder
        ? { mode: "40000", name, oid: entry.write(writer) }
        : { ...entry, name }
    );
    const key = (entry: { mode: string; name: string }) =>
      entry.mode === "40000" ? entry.name + "/" : entry.name;
    entries.sort((a, b) => (key(a) < key(b) ? -1 : 1));
    const oid = writer.rawTree(entries);
    this.#written = { writer, oid };
    return oid;
  }

  /** All entries below, directories included (with oid "" unless they were put by oid). */
  list(prefix: ByteString = ""): TreePath[] {
    return [...this.#entries].flatMap(([name, entry]) => {
      const path = prefix + name;
      if (!(entry instanceof TreeBuilder)) return [{ path, ...entry }];
      return [{ path, mode: "40000", oid: "" }, ...entry.list(path + "/")];
    });
  }
}

/** Deterministic pseudo-random numbers (xorshift128), the same on every machine. */
export class Random {
  #x: number;
  #y = 362436069;
  #z = 521288629;
  #w = 88675123;
  constructor(seed: number) {
    this.#x = (seed ^ 0x9e3779b9) | 0;
    for (let i = 0; i < 16; i++) this.next32();
  }
  /** 0 to 2^32 - 1. */
  next32(): number {
    const t = this.#x ^ (this.#x << 11);
    this.#x = this.#y;
    this.#y = this.#z;
    this.#z = this.#w;
    this.#w = this.#w ^ (this.#w >>> 19) ^ t ^ (t >>> 8);
    return this.#w >>> 0;
  }
  /** 0 to below 1. */
  next(): number {
    return this.next32() / 4294967296;
  }
  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
  /** Bytes that do not compress. */
  bytes(size: number): Uint8Array<ArrayBuffer> {
    const words = new Uint32Array(Math.ceil(size / 4));
    // next32() in locals, for large sizes.
    let [x, y, z, w] = [this.#x, this.#y, this.#z, this.#w];
    for (let i = 0; i < words.length; i++) {
      const t = x ^ (x << 11);
      x = y;
      y = z;
      z = w;
      words[i] = w = w ^ (w >>> 19) ^ t ^ (t >>> 8);
    }
    [this.#x, this.#y, this.#z, this.#w] = [x, y, z, w];
    return new Uint8Array(words.buffer, 0, size);
  }
  /** Lines of letters and digits; compress to about three quarters. */
  text(size: number): Uint8Array<ArrayBuffer> {
    const out = this.bytes(size);
    for (let i = 0; i < size; i++) out[i] = ALPHABET[(out[i] ?? 0) & 63] ?? 32;
    for (let at = 20 + this.below(50); at < size; at += 20 + this.below(50)) out[at] = 10;
    if (size > 0) out[size - 1] = 10;
    return out;
  }
}

const ALPHABET = encode("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXY ()");
