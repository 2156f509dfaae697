/**
 * An automount as systemd has them: mounts autofs at DIR, and when somebody comes there, runs a
 * command in this process group, which alone gets through, and lets the others go on (autofs(5) and
 * include/uapi/linux/auto_fs.h, version 5, direct).
 *
 * usage: deno run -A tests/mount/automount_main.ts DIR COMMAND [ARG...]
 */

import assert from "node:assert/strict";

const libc = Deno.dlopen("libc.so.6", {
  getpgrp: { parameters: [], result: "i32" },
  pipe: { parameters: ["buffer"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  // int ioctl(int fd, unsigned long op, unsigned long token)
  ioctl: { parameters: ["i32", "u64", "u64"], result: "i32" },
}).symbols;

const AUTOFS_IOC_READY = 0x9360n;
const AUTOFS_IOC_FAIL = 0x9361n;
const MISSING_DIRECT = 5;
const O_DIRECTORY_CLOEXEC = (Deno.build.arch === "aarch64" ? 0o40000 : 0o200000) | 0o2000000;

const cString = (text: string) => new TextEncoder().encode(`${text}\0`);

const [dir, command, ...args] = Deno.args as [string, string, ...string[]];
const ends = new Int32Array(2);
assert.equal(libc.pipe(new Uint8Array(ends.buffer)), 0);
const [reading, writing] = ends as unknown as [number, number];
const options = `fd=${writing},pgrp=${libc.getpgrp()},minproto=5,maxproto=5,direct`;
const mounted = libc.mount(
  cString("afs-test"),
  cString(dir),
  cString("autofs"),
  0n,
  cString(options),
);
assert.equal(mounted, 0, "mount autofs");
const root = libc.open(cString(dir), O_DIRECTORY_CLOEXEC, 0);
assert.ok(root >= 0);
const packet = new Uint8Array(304);
while (await libc.read(reading, packet, BigInt(packet.length)) > 0) {
  const view = new DataView(packet.buffer);
  assert.equal(view.getInt32(4, true), MISSING_DIRECT);
  const token = BigInt(view.getUint32(8, true));
  const { success } = await new Deno.Command(command, { args, stdin: "null" }).output();
  libc.ioctl(root, success ? AUTOFS_IOC_READY : AUTOFS_IOC_FAIL, token);
}
