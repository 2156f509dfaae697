/**
 * What a run consists of: operations, each of at most one system call that changes something, so
 * that a kill leaves it done or not done. All of it is JSON.
 */

import type { ByteString } from "../support/raw_fs.ts";

/** A file by its path, opened for this operation only, or by a descriptor that is kept open. */
export type Target = { readonly path: ByteString } | { readonly slot: string };

/** Bytes of a pattern. */
export interface Fill {
  readonly length: number;
  readonly seed: number;
}

/** Nanoseconds since the epoch in decimal, or as utimensat(2) has it. */
export type OpTime = string;

/** Paths are relative to the root of the tree. A slot that is taken is closed before. */
export type Op =
  | {
    readonly call: "open";
    readonly slot: string;
    readonly path: ByteString;
    readonly flags: number;
    readonly mode: number;
  }
  | { readonly call: "tmpfile"; readonly slot: string; readonly path: ByteString }
  | { readonly call: "close"; readonly slot: string }
  /** `offset` null: through a descriptor of its own with O_APPEND. */
  | { readonly call: "write"; readonly to: Target; readonly offset: number | null } & Fill
  /** A shared mapping is written and synced; within one page. */
  | { readonly call: "poke"; readonly to: Target; readonly offset: number } & Fill
  | {
    readonly call: "copy";
    readonly from: Target;
    readonly fromOffset: number;
    readonly to: Target;
    readonly offset: number;
    readonly length: number;
  }
  | { readonly call: "truncate"; readonly to: Target; readonly size: number }
  | {
    readonly call: "fallocate";
    readonly to: Target;
    readonly mode: number;
    readonly offset: number;
    readonly length: number;
  }
  | { readonly call: "fsync"; readonly to: Target; readonly dataOnly: boolean }
  | { readonly call: "mkdir"; readonly path: ByteString; readonly mode: number }
  | { readonly call: "rmdir"; readonly path: ByteString }
  | { readonly call: "unlink"; readonly path: ByteString }
  | {
    readonly call: "rename";
    readonly from: ByteString;
    readonly path: ByteString;
    readonly flags: number;
  }
  | { readonly call: "link"; readonly from: Target; readonly path: ByteString }
  | { readonly call: "symlink"; readonly target: ByteString; readonly path: ByteString }
  | { readonly call: "mknod"; readonly path: ByteString; readonly mode: number }
  | { readonly call: "chmod"; readonly to: Target; readonly mode: number }
  | {
    readonly call: "chown";
    readonly path: ByteString;
    readonly uid: number;
    readonly gid: number;
  }
  | {
    readonly call: "utimens";
    readonly path: ByteString;
    readonly atime: OpTime;
    readonly mtime: OpTime;
  }
  | {
    readonly call: "setxattr";
    readonly path: ByteString;
    readonly name: ByteString;
    readonly flags: number;
  } & Fill
  | { readonly call: "removexattr"; readonly path: ByteString; readonly name: ByteString }
  | { readonly call: "listxattr"; readonly path: ByteString }
  | {
    readonly call: "read";
    readonly from: Target;
    readonly offset: number;
    readonly length: number;
  }
  | { readonly call: "stat"; readonly of: Target }
  | { readonly call: "lstat"; readonly path: ByteString }
  | { readonly call: "readdir"; readonly path: ByteString; readonly bufferBytes: number }
  | { readonly call: "readlink"; readonly path: ByteString };

/** What an operation gave, or the errno it failed with, by name. */
export type Outcome = { readonly value: unknown } | { readonly errno: string };

/** One line, for people. */
export function show(op: Op): string {
  const { call, ...rest } = op;
  const args = Object.entries(rest).map(([name, value]) => {
    const text = typeof value === "object" && value !== null
      ? Object.values(value as Target).map((each) => JSON.stringify(each)).join()
      : JSON.stringify(value);
    return `${name}=${text}`;
  });
  // Long names are of one letter.
  return `${call} ${args.join(" ")}`.replace(/(.)\1{20,}/g, "$1…");
}

const PAGE_BYTES = 4096;

/**
 * The parts that a kill may leave done of an operation, in their order: pages of a write, else
 * nothing or all of it. An append must have got its offset before.
 */
export function partsOf(op: Op): Op[] {
  if (op.call !== "write" && op.call !== "copy") return [op];
  const starts = [op.offset ?? 0, ...(op.call === "copy" ? [op.fromOffset] : [])];
  const cuts = new Set<number>();
  for (const start of starts) {
    for (let at = PAGE_BYTES - start % PAGE_BYTES; at < op.length; at += PAGE_BYTES) cuts.add(at);
  }
  const parts: Op[] = [];
  let rest: Transfer = op;
  let done = 0;
  for (const end of [...cuts].sort((a, b) => a - b)) {
    const [part, more] = split(rest, end - done);
    parts.push(part);
    rest = more;
    done = end;
  }
  return [...parts, rest];
}

type Transfer = Extract<Op, { readonly call: "write" | "copy" }>;

/** The first bytes of a transfer, and the others. What is appended goes on being appended. */
export function split(op: Transfer, length: number): [Transfer, Transfer] {
  const rest = { length: op.length - length };
  const offset = op.offset === null ? null : op.offset + length;
  return op.call === "write"
    ? [{ ...op, length }, { ...op, ...rest, offset, seed: op.seed + length * PATTERN_STEP }]
    : [{ ...op, length }, {
      ...op,
      ...rest,
      offset: op.offset + length,
      fromOffset: op.fromOffset + length,
    }];
}

/** How the pattern's byte grows with its place; see `pattern`. */
const PATTERN_STEP = 31;

/** Bytes of a fill: each depends on seed and place in such a way that a part is a fill as well. */
export function pattern({ length, seed }: Fill): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const at = seed + i * PATTERN_STEP;
    out[i] = at ^ (at >> 8);
  }
  return out;
}
