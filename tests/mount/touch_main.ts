/**
 * One way of touching one path of a mount, as the first touch of a program would: prints a JSON
 * object, always with `errno` ("" when all calls succeeded).
 *
 *     deno run -A touch_main.ts OP PATH [ARGUMENT]...
 */

import { createHash } from "node:crypto";
import * as raw from "../support/raw_fs.ts";

const libc = Deno.dlopen("libc.so.6", {
  pipe: { parameters: ["buffer"], result: "i32" },
  splice: {
    parameters: ["i32", "buffer", "i32", "buffer", "usize", "u32"],
    result: "isize",
  },
  getxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  listxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  __errno_location: { parameters: [], result: "pointer" },
}).symbols;

function check(result: number | bigint, call: string): number {
  if (result >= 0) return Number(result);
  const errno = new Deno.UnsafePointerView(libc.__errno_location()!).getInt32();
  throw new raw.RawFsError(call, errno);
}

function c(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array([...new TextEncoder().encode(text), 0]);
}

function digest(bytes: Uint8Array): Record<string, unknown> {
  return { sizeBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** Opens, hands the descriptor over, closes. */
function withFile<T>(path: string, flags: number, use: (fd: number) => T): T {
  const fd = raw.open(raw.fromUtf8(path), flags);
  try {
    return use(fd);
  } finally {
    raw.close(fd);
  }
}

function copied(to: string, copy: (outFd: number) => void): Record<string, unknown> {
  withFile(to, raw.O_RDWR | raw.O_CREAT | raw.O_TRUNC, copy);
  return digest(raw.readFile(raw.fromUtf8(to)));
}

const [op = "", path = "", ...args] = Deno.args;
const argument = args[0] ?? "";
const name = c(path);

const OPS: Readonly<Record<string, () => Record<string, unknown>>> = {
  // Reads.
  read: () => digest(raw.readFile(raw.fromUtf8(path))),
  "read-small": () => digest(raw.readFile(raw.fromUtf8(path), 1000)),
  "pread-end": () =>
    withFile(path, raw.O_RDONLY, (fd) => {
      const buffer = new Uint8Array(100);
      const at = Number(argument) - 50;
      return digest(buffer.slice(0, raw.pread(fd, buffer, at)));
    }),
  direct: () =>
    withFile(path, raw.O_RDONLY | raw.O_DIRECT, (fd) => {
      const buffer = new Uint8Array(1 << 20);
      return digest(buffer.slice(0, raw.read(fd, buffer)));
    }),
  mmap: () =>
    withFile(path, raw.O_RDONLY, (fd) => {
      const mapping = raw.mmap(fd, Number(argument));
      const result = digest(mapping.bytes.slice());
      mapping.unmap();
      return result;
    }),
  "mmap-shared": () =>
    withFile(path, raw.O_RDONLY, (fd) => {
      const mapping = raw.mmap(fd, Number(argument), { shared: true });
      const result = digest(mapping.bytes.slice());
      mapping.unmap();
      return result;
    }),
  /** Writes the whole file through a mapping, makes the file `argument` to say so, and holds on. */
  "mmap-dirty": () =>
    withFile(path, raw.O_RDWR, (fd) => {
      const length = raw.stat(raw.fromUtf8(path)).size;
      raw.mmap(fd, length, { shared: true, writable: true }).bytes.fill(0x5a);
      Deno.writeTextFileSync(argument, "");
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }),
  sendfile: () =>
    withFile(path, raw.O_RDONLY, (inFd) =>
      copied(argument, (outFd) => {
        while (raw.sendfile(outFd, inFd, 1 << 20) > 0);
      })),
  "copy-file-range": () =>
    withFile(path, raw.O_RDONLY, (inFd) =>
      copied(argument, (outFd) => {
        while (raw.copyFileRange(inFd, outFd, 1 << 20) > 0);
      })),
  splice: () =>
    withFile(path, raw.O_RDONLY, (inFd) => {
      const ends = new Int32Array(2);
      check(libc.pipe(new Uint8Array(ends.buffer)), "pipe");
      const [outOfPipe = 0, intoPipe = 0] = ends;
      const parts: Uint8Array[] = [];
      for (;;) {
        const count = check(libc.splice(inFd, null, intoPipe, null, 4096n, 0), "splice");
        if (count === 0) break;
        const buffer = new Uint8Array(count);
        for (let at = 0; at < count;) at += raw.read(outOfPipe, buffer.subarray(at));
        parts.push(buffer);
      }
      return digest(new Uint8Array(parts.flatMap((part) => [...part])));
    }),
  "seek-end": () => withFile(path, raw.O_RDONLY, (fd) => ({ at: raw.lseek(fd, 0, raw.SEEK_END) })),
  "seek-data": () =>
    withFile(path, raw.O_RDONLY, (fd) => ({ at: raw.lseek(fd, 0, raw.SEEK_DATA) })),
  "seek-hole": () =>
    withFile(path, raw.O_RDONLY, (fd) => ({ at: raw.lseek(fd, 0, raw.SEEK_HOLE) })),
  stat: () => ({ sizeBytes: raw.stat(raw.fromUtf8(path)).size }),
  access: () => {
    raw.access(raw.fromUtf8(path), 4);
    return {};
  },
  readlink: () => ({ target: raw.fromBytes(raw.readlink(raw.fromUtf8(path))) }),
  // Extended attributes.
  getxattr: () => ({
    result: check(libc.getxattr(name, c(argument), new Uint8Array(256), 256n), "getxattr"),
  }),
  listxattr: () => ({
    result: check(libc.listxattr(name, new Uint8Array(256), 256n), "listxattr"),
  }),
  // Directories.
  "list-sizes": () => {
    const lists = [280, 300, 1000, 4096, 65536].map((bytes) =>
      raw.readdir(raw.fromUtf8(path), bytes).map((entry) => entry.name)
    );
    const same = lists.every((list) => list.join("/") === lists[0]?.join("/"));
    return { same, count: lists[0]?.length ?? 0, unique: new Set(lists[0]).size };
  },
  seekdir: () =>
    withFile(path, raw.O_RDONLY | raw.O_DIRECTORY, (fd) => {
      const all = raw.readdirFd(fd, 1000);
      const wrong: string[] = [];
      for (const at of [0, 1, 2, 3, 10, all.length >> 1, all.length - 2]) {
        const here = all[at];
        const next = all[at + 1];
        if (here === undefined || next === undefined) continue;
        raw.lseek(fd, Number(here.offset), raw.SEEK_SET);
        const found = raw.getdents(fd, new Uint8Array(300))[0];
        if (found?.name !== next.name || found.ino !== next.ino) {
          wrong.push(`after ${here.name}: ${found?.name}, not ${next.name}`);
        }
      }
      raw.lseek(fd, Number(all.at(-1)?.offset ?? 0n), raw.SEEK_SET);
      const behind = raw.getdents(fd, new Uint8Array(300)).length;
      raw.lseek(fd, 0, raw.SEEK_SET);
      const again = raw.readdirFd(fd).map((entry) => entry.name).join("/");
      return {
        wrong,
        behind,
        rewound: again === all.map((entry) => entry.name).join("/"),
        count: all.length,
      };
    }),
};

let result: Record<string, unknown>;
try {
  const run = OPS[op];
  if (run === undefined) throw new Error(`no such operation: ${op}`);
  result = { errno: "", ...run() };
} catch (error) {
  if (!(error instanceof raw.RawFsError)) throw error;
  result = { errno: raw.errnoName(error.errno), call: error.call };
}
console.log(JSON.stringify(result));
