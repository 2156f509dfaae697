/**
 * Loops over files by libc, in a process of their own because they block. Nothing is allocated or
 * decoded inside of a timed loop, so that it runs at the speed of a compiled program.
 *
 *     child_main.ts warm PASSES TREE REFERENCE      compares two copies of one tree: A B A B
 *     child_main.ts scattered TREE CONTROL PATHS    cold reads, PATHS is a JSON file
 *
 * The result is one line of JSON.
 */

import {
  type ByteString,
  fromUtf8,
  O_CLOEXEC,
  O_DIRECTORY,
  O_RDONLY,
  S_IFMT,
  S_IFREG,
  toBytes,
  walk,
} from "../support/raw_fs.ts";
import { resetTraffic, settledTraffic } from "./server.ts";

const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BASIC_STATS = 0x7ff;
const WARM_UP_PASSES = 2;

// With numbers for sizes and results of 32 bits, the calls take V8's fast path.
const libc = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
}).symbols;

const buffer = new Uint8Array(131072);
const bufferBytes = buffer.length as unknown as bigint;
const statBuffer = new Uint8Array(256);
const statView = new DataView(statBuffer.buffer);

interface Directory {
  readonly path: Uint8Array<ArrayBuffer>;
  readonly names: Uint8Array<ArrayBuffer>[];
}

const cstring = (text: ByteString) => {
  const bytes = toBytes(text);
  const out = new Uint8Array(bytes.length + 1);
  out.set(bytes);
  return out;
};

/** What the loops go over, prepared for one root. */
class Plan {
  readonly directories: Directory[];
  readonly files: Uint8Array<ArrayBuffer>[];
  readonly entryCount: number;

  constructor(root: string, listing: Listing) {
    const top = fromUtf8(root);
    const full = (path: ByteString) => cstring(path === "" ? top : `${top}/${path}`);
    this.directories = [...listing.directories].map(([path, names]) => ({
      path: full(path),
      names: names.map(cstring),
    }));
    this.files = listing.files.map(full);
    this.entryCount = this.directories.reduce((sum, { names }) => sum + names.length, 0);
  }

  /** Reads each directory and stats what is in it. Returns the sum of the sizes of files. */
  walk(): number {
    let total = 0;
    for (const { path, names } of this.directories) {
      const fd = libc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
      if (fd < 0) fail("open", path);
      let n: number;
      do n = libc.getdents64(fd, buffer, bufferBytes); while (n > 0);
      if (n < 0) fail("getdents64", path);
      for (const name of names) {
        const result = libc.statx(fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, statBuffer);
        if (result < 0) fail("statx", name);
        if ((statView.getUint16(28, true) & S_IFMT) === S_IFREG) {
          total += statView.getUint32(40, true);
        }
      }
      libc.close(fd);
    }
    return total;
  }

  /** Opens, reads to a short read, and closes each file. Returns the bytes read. */
  read(): number {
    let total = 0;
    for (const file of this.files) total += readFile(file);
    return total;
  }
}

function readFile(path: Uint8Array<ArrayBuffer>): number {
  const fd = libc.open(path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) fail("open", path);
  let total = 0;
  for (;;) {
    const n = libc.read(fd, buffer, bufferBytes);
    if (n < 0) fail("read", path);
    total += n;
    if (n < buffer.length) break;
  }
  libc.close(fd);
  return total;
}

function fail(call: string, path: Uint8Array): never {
  throw new Error(`Cannot ${call} ${new TextDecoder().decode(path).replace("\0", "")}`);
}

interface Listing {
  /** Names by directory. */
  readonly directories: Map<ByteString, ByteString[]>;
  /** Regular files. */
  readonly files: ByteString[];
}

function list(root: string): Listing {
  const directories = new Map<ByteString, ByteString[]>([["", []]]);
  const files: ByteString[] = [];
  for (const { path, name, stat } of walk(fromUtf8(root))) {
    if (path === ".git" || path.startsWith(".git/")) continue;
    directories.get(path.slice(0, Math.max(0, path.length - name.length - 1)))?.push(name);
    const kind = stat.mode & S_IFMT;
    if (kind === S_IFREG) files.push(path);
    else if (kind === 0o040000) directories.set(path, []);
  }
  return { directories, files };
}

interface Timed {
  /** Microseconds for each entry, one number for each pass. */
  readonly tree: number[];
  readonly reference: number[];
}

function compare(passes: number, count: number, tree: () => number, reference: () => number) {
  const timed: Timed = { tree: [], reference: [] };
  for (let i = 0; i < WARM_UP_PASSES; i++) {
    const [a, b] = [tree(), reference()];
    if (a !== b) throw new Error(`The trees differ: ${a} bytes and ${b}`);
  }
  for (let i = 0; i < passes; i++) {
    for (const [body, into] of [[tree, timed.tree], [reference, timed.reference]] as const) {
      const start = performance.now();
      body();
      into.push((performance.now() - start) * 1000 / count);
    }
  }
  return timed;
}

function warm(passes: number, tree: string, reference: string) {
  const listing = list(reference);
  const [a, b] = [new Plan(tree, listing), new Plan(reference, listing)];
  return {
    walk: compare(passes, a.entryCount, () => a.walk(), () => b.walk()),
    read: compare(passes, a.files.length, () => a.read(), () => b.read()),
  };
}

async function scattered(tree: string, control: string, paths: readonly ByteString[]) {
  const reads: { ms: number; requests: number; wants: number }[] = [];
  for (const path of paths) {
    const full = cstring(`${fromUtf8(tree)}/${path}`);
    await resetTraffic(control);
    const start = performance.now();
    if (readFile(full) === 0) throw new Error(`${path} is empty`);
    const ms = performance.now() - start;
    reads.push({ ms, ...await settledTraffic(control) });
  }
  return reads;
}

const [verb, a = "", b = "", c = ""] = Deno.args;
if (verb === "warm") console.log(JSON.stringify(warm(Number(a), b, c)));
else if (verb === "scattered") {
  console.log(JSON.stringify(await scattered(a, b, JSON.parse(Deno.readTextFileSync(c)))));
} else throw new Error(`no such verb: ${verb}`);
