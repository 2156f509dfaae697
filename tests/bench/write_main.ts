/**
 * Loops that write, by libc, in a process of their own because they block. Names are made before
 * the clock starts; a call by FFI costs 0.2 us more than from C. Each operation runs in the mount
 * and in the reference, A B A B.
 *
 *     write_main.ts SOCKET TREE REFERENCE PASSES SCALE
 *
 * The two trees hold what write_repository.ts makes. SCALE divides how much is written. The result
 * is one line of JSON: samples by figure.
 */

import {
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from "../support/raw_fs.ts";
import type { WriteSamples } from "./child.ts";
import { WRITE_FIGURES, type WriteFigureId } from "./figures_write.ts";
import { Meter } from "./meter.ts";
import { Random } from "../support/git_objects.ts";
import { COPY_UP_FILES } from "./write_repository.ts";

const libc = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  renameat: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32" },
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  mkdirat: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  fsync: { parameters: ["i32"], result: "i32" },
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
  sync: { parameters: [], result: "void" },
}).symbols;

const PAGE_BYTES = 4096;
const CHUNK_BYTES = 131072;
const RECORD_BYTES = 100;
const MIB = 1 << 20;
const POSIX_FADV_DONTNEED = 4;
const STATX_BASIC_STATS = 0x7ff;
const CREATORS = 16;

const bytes = new Uint8Array(CHUNK_BYTES).map((_, i) => i * 31 % 251);
const statBytes = new Uint8Array(256);

const n = BigInt;
const cstring = (text: string) => new TextEncoder().encode(`${text}\0`);

function must(result: number, what: string): number {
  if (result < 0) throw new Error(`Cannot ${what}`);
  return result;
}

const results: Partial<Record<WriteFigureId, WriteSamples>> = {};

interface Side {
  readonly root: string;
  readonly kind: "tree" | "reference";
}

const [socketPath = "", tree = "", reference = "", passes = "1", scale = "1"] = Deno.args;
const SIDES: readonly Side[] = [
  { root: tree, kind: "tree" },
  { root: reference, kind: "reference" },
];

const meter = await Meter.of(socketPath);

/** Times `count` operations; a sample is the time of each in the figure's unit. */
async function timed(
  id: WriteFigureId,
  { kind }: Side,
  count: number,
  body: () => void | Promise<void>,
): Promise<void> {
  const samples = results[id] ??= { tree: [], reference: [], costs: [] };
  const clocked = async () => {
    const start = performance.now();
    await body();
    const ms = (performance.now() - start) / count;
    samples[kind].push(WRITE_FIGURES[id].unit === "us" ? ms * 1000 : ms);
  };
  if (kind === "tree") samples.costs.push(await meter.cost(count, clocked));
  else await clocked();
}

function openDirectory(path: string): number {
  return must(libc.open(cstring(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), `open ${path}`);
}

/** Both sides do the same, each in a new directory. */
async function inNewDirectories(
  name: string,
  body: (side: Side, dirFd: number) => Promise<void>,
): Promise<void> {
  for (const side of SIDES) {
    Deno.mkdirSync(`${side.root}/${name}`);
    const dirFd = openDirectory(`${side.root}/${name}`);
    await body(side, dirFd);
    libc.close(dirFd);
  }
}

function createFile(dirFd: number, name: Uint8Array<ArrayBuffer>): void {
  const fd = libc.openat(dirFd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
  must(fd, "create");
  if (libc.write(fd, bytes, n(PAGE_BYTES)) !== PAGE_BYTES) throw new Error("Cannot write");
  libc.close(fd);
}

async function names(pass: number, count: number): Promise<void> {
  const files = Array.from({ length: count }, (_, i) => cstring(`file-${i}`));
  const renamed = Array.from({ length: count }, (_, i) => cstring(`renamed-${i}`));
  const directories = Array.from({ length: count }, (_, i) => cstring(`dir-${i}`));
  await inNewDirectories(`names-${pass}`, async (side, dirFd) => {
    await timed("create", side, count, () => {
      for (const file of files) createFile(dirFd, file);
    });
    const statAll = () => {
      for (const file of files) {
        must(libc.statx(dirFd, file, 0, STATX_BASIC_STATS, statBytes), "stat");
      }
    };
    await timed("firstStat", side, count, statAll);
    await timed("warmStat", side, count, statAll);
    await timed("rename", side, count, () => {
      for (let i = 0; i < count; i++) {
        must(libc.renameat(dirFd, files[i] ?? null, dirFd, renamed[i] ?? null), "rename");
      }
    });
    await timed("mkdir", side, count, () => {
      for (const directory of directories) must(libc.mkdirat(dirFd, directory, 0o755), "mkdir");
    });
    await timed("unlink", side, count, () => {
      for (const file of renamed) must(libc.unlinkat(dirFd, file, 0), "unlink");
    });
  });
}

/** Offsets of pages, the same for both sides. */
function randomPages(seed: number, count: number, sizeBytes: number): Float64Array {
  const random = new Random(seed);
  const pages = sizeBytes / PAGE_BYTES;
  return Float64Array.from({ length: count }, () => random.below(pages) * PAGE_BYTES);
}

async function bigFiles(pass: number, count: number, sizeBytes: number): Promise<void> {
  await inNewDirectories(`data-${pass}`, async (side, dirFd) => {
    const log = must(
      libc.openat(dirFd, cstring("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644),
      "create",
    );
    await timed("append", side, count, () => {
      for (let i = 0; i < count; i++) libc.write(log, bytes, n(RECORD_BYTES));
    });
    libc.close(log);

    const fd = libc.openat(dirFd, cstring("random"), O_RDWR | O_CREAT | O_CLOEXEC, 0o644);
    must(fd, "create");
    for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) libc.write(fd, bytes, n(CHUNK_BYTES));
    const writes = randomPages(pass * 2 + 1, count, sizeBytes);
    await timed("randomWrite", side, count, () => {
      for (const at of writes) libc.pwrite(fd, bytes, n(PAGE_BYTES), n(at));
    });
    libc.fsync(fd);
    // Out of the mount's pages; the backing file's stay in memory, as the local file's do.
    if (side.kind === "tree") libc.posix_fadvise(fd, n(0), n(0), POSIX_FADV_DONTNEED);
    const reads = new Set(randomPages(pass * 2 + 2, count, sizeBytes));
    await timed("randomRead", side, reads.size, () => {
      for (const at of reads) libc.pread(fd, bytes, n(PAGE_BYTES), n(at));
    });
    libc.close(fd);
    must(libc.unlinkat(dirFd, cstring("random"), 0), "unlink");

    const small = libc.openat(dirFd, cstring("small"), O_WRONLY | O_CREAT | O_CLOEXEC, 0o644);
    must(small, "create");
    const syncs = Math.ceil(count / 50);
    await timed("fsync", side, syncs, () => {
      for (let i = 0; i < syncs; i++) {
        libc.pwrite(small, bytes, n(PAGE_BYTES), n(i * PAGE_BYTES));
        must(libc.fsync(small), "fsync");
      }
    });
    libc.close(small);
  });
}

/** Each file of the base can be written for the first time once. */
async function copyUps(pass: number, passCount: number): Promise<void> {
  const count = Math.floor(COPY_UP_FILES / passCount);
  const paths = Array.from({ length: count }, (_, i) => cstring(`big/${pass * count + i}`));
  for (const side of SIDES) {
    const dirFd = openDirectory(side.root);
    await timed("copyUp", side, count, () => {
      for (const path of paths) {
        const fd = must(libc.openat(dirFd, path, O_WRONLY | O_CLOEXEC, 0), "open");
        libc.pwrite(fd, bytes, n(PAGE_BYTES), n(PAGE_BYTES));
        libc.close(fd);
      }
    });
    libc.close(dirFd);
  }
}

async function renameBase(): Promise<void> {
  for (const side of SIDES) {
    const dirFd = openDirectory(side.root);
    const [from, to] = [cstring("wide"), cstring("wider")];
    await timed("renameBase", side, 1, () => {
      must(libc.renameat(dirFd, from, dirFd, to), "rename");
    });
    libc.close(dirFd);
  }
}

async function sequential(pass: number, sizeBytes: number): Promise<void> {
  const name = `sequential-${pass}`;
  for (const side of SIDES) {
    const path = cstring(`${side.root}/${name}`);
    const fd = must(libc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644), "create");
    await timed("sequentialWrite", side, 1, () => {
      for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
        if (libc.write(fd, bytes, n(CHUNK_BYTES)) !== CHUNK_BYTES) throw new Error("Cannot write");
      }
      must(libc.fsync(fd), "fsync");
    });
    libc.close(fd);
  }
  for (const side of SIDES) {
    libc.sync();
    Deno.writeTextFileSync("/proc/sys/vm/drop_caches", "3");
    const fd = must(libc.open(cstring(`${side.root}/${name}`), O_RDONLY | O_CLOEXEC, 0), "open");
    await timed("sequentialRead", side, 1, () => {
      let total = 0;
      for (;;) {
        const count = must(libc.read(fd, bytes, n(CHUNK_BYTES)), "read");
        if (count === 0) break;
        total += count;
      }
      if (total !== sizeBytes) throw new Error(`${total} bytes instead of ${sizeBytes}`);
    });
    libc.close(fd);
  }
  for (const { root } of SIDES) Deno.removeSync(`${root}/${name}`);
}

/** Threads that all create in one directory. */
async function parallelCreates(pass: number, each: number): Promise<void> {
  const url = new URL("./creator_worker.ts", import.meta.url);
  const workers = Array.from({ length: CREATORS }, () => new Worker(url, { type: "module" }));
  const answers = () =>
    Promise.all(
      workers.map((worker) =>
        new Promise<unknown>((resolve) => worker.onmessage = ({ data }) => resolve(data))
      ),
    );
  await answers();
  for (const side of SIDES) {
    const directory = `${side.root}/parallel-${pass}`;
    Deno.mkdirSync(directory);
    await timed("parallelCreate", side, CREATORS * each, async () => {
      const created = answers();
      workers.forEach((worker, i) =>
        worker.postMessage({ directory, prefix: `thread-${i}-`, count: each })
      );
      if ((await created).some((count) => count !== each)) throw new Error("Cannot create");
    });
  }
  for (const worker of workers) worker.terminate();
}

const divisor = Number(scale);
const passCount = Number(passes);
const scaled = (count: number) => Math.ceil(count / divisor);
await renameBase();
for (let pass = 0; pass < passCount; pass++) {
  await names(pass, scaled(2000));
  await parallelCreates(pass, scaled(200));
  await bigFiles(pass, scaled(5000), 64 * MIB);
  await copyUps(pass, passCount);
}
await sequential(0, 1024 * MIB / divisor);
console.log(JSON.stringify(results));
