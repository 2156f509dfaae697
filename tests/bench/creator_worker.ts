/** One of several threads that create files in one directory: prepared once, then told where. */

import { O_CLOEXEC, O_CREAT, O_EXCL, O_WRONLY } from "../support/raw_fs.ts";

const libc = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
}).symbols;

const BYTES = 4096;
const content = new Uint8Array(BYTES).fill(120);
const contentBytes = BYTES as unknown as bigint;

declare const self: {
  onmessage: (event: { readonly data: Task }) => void;
  postMessage(message: unknown): void;
};

interface Task {
  readonly directory: string;
  readonly prefix: string;
  readonly count: number;
}

/** How many of them it could create. */
function create({ directory, prefix, count }: Task): number {
  const paths = Array.from(
    { length: count },
    (_, i) => new TextEncoder().encode(`${directory}/${prefix}${i}\0`),
  );
  let created = 0;
  for (const path of paths) {
    const fd = libc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
    if (fd >= 0 && libc.write(fd, content, contentBytes) === BYTES) created++;
    libc.close(fd);
  }
  return created;
}

self.onmessage = ({ data }) => self.postMessage(create(data));
self.postMessage("ready");
