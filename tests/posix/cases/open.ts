/** open(2): flags in every combination, access modes, what a path may look like. */

import { by, compared, fails, type PosixCase } from "../case.ts";
import { MANY_CONTENT, manyName } from "../fixture.ts";
import * as c from "../syscalls.ts";

const ACCESS_MODES = { RDONLY: c.O_RDONLY, WRONLY: c.O_WRONLY, RDWR: c.O_RDWR, "3": 3 } as const;
const FLAGS = {
  CREAT: c.O_CREAT,
  EXCL: c.O_EXCL,
  TRUNC: c.O_TRUNC,
  APPEND: c.O_APPEND,
  DIRECTORY: c.O_DIRECTORY,
  NOFOLLOW: c.O_NOFOLLOW,
} as const;

interface Combination {
  readonly name: string;
  readonly flags: number;
}

/** Every access mode with every subset of the flags. */
const COMBINATIONS: readonly Combination[] = Object.entries(ACCESS_MODES).flatMap(
  ([mode, base]) => {
    let all: Combination[] = [{ name: mode, flags: base }];
    for (const [flag, bit] of Object.entries(FLAGS)) {
      all = all.flatMap(({ name, flags }) => [
        { name, flags },
        { name: `${name}|${flag}`, flags: flags | bit },
      ]);
    }
    return all;
  },
);

/** One step for each combination, on the path that `target` gives for its number. */
function combined(target: (n: number) => string) {
  return COMBINATIONS.map(({ name, flags }, n) =>
    compared(`open ${target(n)} ${name}`, (s) => s.tryOpen(target(n), flags, 0o640))
  );
}

const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = c;

export const OPEN: readonly PosixCase[] = [
  {
    name: "open: every combination on a file that nobody has touched",
    fixture: ["many"],
    steps: combined(manyName),
  },
  {
    name: "open: every combination on a name that is free",
    steps: combined((n) => `new${n}`),
  },
  {
    name: "open: every combination on a directory",
    fixture: ["small"],
    steps: combined(() => "dir"),
  },
  {
    name: "open: every combination on a link to a file",
    setup: (s) => {
      for (const n of COMBINATIONS.keys()) {
        s.put(`file${n}`, MANY_CONTENT);
        s.symlink(`file${n}`, `link${n}`);
      }
    },
    steps: combined((n) => `link${n}`),
  },
  {
    name: "open: every combination on a link to a directory",
    fixture: ["small"],
    steps: combined(() => "dirlink"),
  },
  {
    name: "open: every combination on a dangling link",
    setup: (s) => {
      for (const n of COMBINATIONS.keys()) s.symlink(`target${n}`, `link${n}`);
    },
    steps: combined((n) => `link${n}`),
  },
  {
    name: "open: every combination by a user, on a file of another one",
    setup: (s) => {
      s.chmod(".", 0o777);
      for (const n of COMBINATIONS.keys()) s.put(`file${n}`, MANY_CONTENT);
    },
    steps: combined((n) => `file${n}`).map((step) => by("user", step)),
  },
  {
    name: "open: O_EXCL and O_CREAT",
    fixture: ["small"],
    steps: [
      fails("EEXIST", (s) => s.open("a", "file", O_RDWR | O_CREAT | O_EXCL)),
      fails("EEXIST", (s) => s.open("a", "dangling", O_RDWR | O_CREAT | O_EXCL)),
      fails("EEXIST", (s) => s.open("a", "dir", O_RDWR | O_CREAT | O_EXCL)),
      fails("EISDIR", (s) => s.open("a", "dir", O_RDWR | O_CREAT)),
      (s) => s.open("a", "fresh", O_RDWR | O_CREAT | O_EXCL, 0o600),
      fails("EEXIST", (s) => s.open("b", "fresh", O_RDWR | O_CREAT | O_EXCL)),
      (s) => s.fstat("a"),
      (s) => s.open("c", "dangling", O_RDWR | O_CREAT),
      (s) => s.stat("nowhere"),
    ],
  },
  {
    name: "open: O_CREAT takes the mode, less the umask",
    steps: [
      (s) => s.umask(0o027),
      (s) => s.put("a", "", 0o777),
      (s) => s.umask(0),
      ...[0, 0o1, 0o111, 0o222, 0o444, 0o666, 0o777, 0o1777, 0o2755, 0o4755, 0o7777].map((mode) =>
        compared(`create with ${mode.toString(8)}`, (s) => {
          s.put(`m${mode.toString(8)}`, "x", mode);
          return s.stat(`m${mode.toString(8)}`);
        })
      ),
    ],
  },
  {
    name: "open: O_CREAT of a file that may not be written, written",
    setup: (s) => s.chmod(".", 0o777),
    steps: [
      by("user", (s) => s.open("a", "readonly", O_RDWR | O_CREAT | O_EXCL, 0o444)),
      by("user", (s) => s.write("a", "written")),
      by("user", fails("EACCES", (s) => s.open("b", "readonly", O_RDWR))),
      by("user", (s) => s.open("c", "none", O_WRONLY | O_CREAT, 0)),
      by("user", (s) => s.write("c", "written too")),
      by("user", fails("EACCES", (s) => s.open("d", "none", O_RDONLY))),
    ],
  },
  {
    name: "open: O_CREAT and the times of file and directory",
    fixture: ["small"],
    steps: [
      (s) => s.times(["."], () => s.open("a", "fresh", O_RDWR | O_CREAT)),
      (s) => s.times([".", "fresh"], () => s.open("b", "fresh", O_RDWR | O_CREAT)),
      (s) => s.times([".", "file"], () => s.open("c", "file", O_RDWR | O_CREAT)),
      (s) => s.times([".", "file"], () => s.open("d", "file", O_RDWR | O_TRUNC)),
      (s) => s.times([".", "file"], () => s.open("e", "file", O_RDWR | O_TRUNC)),
      (s) => s.times([".", "empty"], () => s.open("f", "empty", O_RDWR | O_TRUNC)),
      fails(
        "EEXIST",
        (s) => s.times([".", "text"], () => s.open("g", "text", O_RDWR | O_CREAT | O_EXCL)),
      ),
    ],
  },
  {
    name: "open: O_TRUNC empties, also when it may only read",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file", O_RDONLY | O_TRUNC),
      (s) => s.cat("file"),
      (s) => s.open("b", "text", O_WRONLY | O_TRUNC | c.O_APPEND),
      (s) => s.write("b", "new"),
      (s) => s.cat("text"),
      (s) => s.tryOpen("link", O_WRONLY | O_TRUNC),
      fails("EISDIR", (s) => s.open("c", "dir", O_WRONLY | O_TRUNC)),
      by("user", fails("EACCES", (s) => s.open("d", "exec", O_RDONLY | O_TRUNC))),
      (s) => s.cat("exec"),
    ],
  },
  {
    name: "open: paths that lead nowhere",
    fixture: ["small"],
    setup: (s) => {
      s.symlink("loop2", "loop1");
      s.symlink("loop1", "loop2");
    },
    steps: [
      fails("ENOENT", (s) => s.open("a", "")),
      fails("ENOENT", (s) => s.open("a", "none")),
      fails("ENOENT", (s) => s.open("a", "none/file", O_RDWR | O_CREAT)),
      fails("ENOENT", (s) => s.open("a", "dangling")),
      fails("ENOTDIR", (s) => s.open("a", "file/x")),
      fails("ENOTDIR", (s) => s.open("a", "file/x", O_RDWR | O_CREAT)),
      fails("ENOTDIR", (s) => s.open("a", "file/")),
      fails("ENOTDIR", (s) => s.open("a", "file/.")),
      fails("EISDIR", (s) => s.open("a", "file/", O_RDWR | O_CREAT)),
      fails("EISDIR", (s) => s.open("a", "fresh/", O_RDWR | O_CREAT)),
      fails("ENOENT", (s) => s.open("a", "fresh/")),
      fails("EISDIR", (s) => s.open("a", "dir", O_WRONLY)),
      fails("EISDIR", (s) => s.open("a", ".", O_RDWR)),
      fails("ELOOP", (s) => s.open("a", "loop1")),
      fails("ELOOP", (s) => s.open("a", "loop1/x")),
      fails("ELOOP", (s) => s.open("a", "loop1", O_RDWR | O_CREAT)),
      fails("ELOOP", (s) => s.open("a", "link", c.O_NOFOLLOW)),
      fails("ENOTDIR", (s) => s.open("a", "dirlink", c.O_NOFOLLOW | c.O_DIRECTORY)),
      fails("ENOTDIR", (s) => s.open("a", "file", c.O_DIRECTORY)),
      (s) => s.tryOpen("dir/", O_RDONLY),
      (s) => s.tryOpen("dir/./sub/../a", O_RDONLY),
      (s) => s.tryOpen("dirlink/sub/leaf", O_RDONLY),
      (s) => s.tryOpen("dirlink/", c.O_NOFOLLOW),
      (s) => s.tryOpen("dir//a", O_RDONLY),
    ],
  },
  {
    name: "open: O_PATH",
    fixture: ["small"],
    steps: [
      (s) => s.open("file", "file", c.O_PATH),
      (s) => s.fstat("file"),
      fails("EBADF", (s) => s.read("file", 1)),
      fails("EBADF", (s) => s.write("file", "x")),
      fails("EBADF", (s) => s.ftruncate("file", 0)),
      fails("EBADF", (s) => s.fchmod("file", 0o600)),
      fails("EBADF", (s) => s.fchown("file", 1, 1)),
      fails("EBADF", (s) => s.map("m", "file", 10)),
      (s) => s.linkFd("file", "second"),
      (s) => s.open("link", "link", c.O_PATH | c.O_NOFOLLOW),
      (s) => s.fstat("link"),
      (s) => c.fromBytes(c.readlinkAt(s.fd("link"), "")),
      (s) => s.open("dir", "dir", c.O_PATH),
      fails("EBADF", (s) => s.listFd("dir")),
      (s) => s.openAt("leaf", "dir", "sub/leaf"),
      (s) => s.read("leaf", 100),
      (s) => s.fchdir("dir"),
      (s) => s.list("."),
    ],
  },
  {
    name: "open: O_PATH needs no permission on the file",
    setup: (s) => s.put("secret", "secret", 0o600),
    steps: [
      by("user", fails("EACCES", (s) => s.open("a", "secret"))),
      by("user", (s) => s.open("b", "secret", c.O_PATH)),
      by("user", (s) => s.fstat("b")),
    ],
  },
  {
    name: "open: O_TMPFILE",
    fixture: ["small"],
    steps: [
      (s) => s.times(["dir"], () => s.open("a", "dir", O_RDWR | c.O_TMPFILE, 0o640)),
      (s) => s.fstat("a"),
      (s) => s.write("a", "unnamed"),
      (s) => s.pread("a", 100, 0),
      (s) => s.list("dir"),
      (s) => s.times(["dir"], () => s.linkFd("a", "dir/named")),
      (s) => s.fstat("a"),
      (s) => s.cat("dir/named"),
      (s) => s.write("a", " and named"),
      (s) => s.cat("dir/named"),
      fails("EEXIST", (s) => s.linkFd("a", "dir/named")),
      (s) => s.open("b", ".", O_RDWR | c.O_TMPFILE | O_EXCL),
      fails("ENOENT", (s) => s.linkFd("b", "never")),
      (s) => s.open("c", ".", O_WRONLY | c.O_TMPFILE),
      (s) => s.write("c", "found"),
      (s) => s.link(`/proc/self/fd/${s.fd("c")}`, "dir/by-proc", c.AT_SYMLINK_FOLLOW),
      (s) => s.cat("dir/by-proc"),
      (s) => s.open("lost", ".", O_WRONLY | c.O_TMPFILE),
      (s) => s.write("lost", "lost"),
      (s) => s.close("lost"),
      fails("EINVAL", (s) => s.open("d", ".", O_RDONLY | c.O_TMPFILE)),
      fails("ENOTDIR", (s) => s.open("d", "file", O_RDWR | c.O_TMPFILE)),
      fails("ENOENT", (s) => s.open("d", "none", O_RDWR | c.O_TMPFILE)),
      by("user", fails("EACCES", (s) => s.open("d", ".", O_RDWR | c.O_TMPFILE))),
    ],
  },
  {
    name: "open: O_DIRECT reads and writes what others see",
    fixture: ["small", "large"],
    steps: [
      (s) => s.open("direct", "large", O_RDWR | c.O_DIRECT),
      (s) => s.open("cached", "large", O_RDWR),
      (s) => s.pread("cached", 8192, 4096),
      (s) => {
        const blocks = alignedBlocks(8192);
        const count = c.pread(s.fd("direct"), blocks, 4096);
        return [count, c.fromBytes(blocks.subarray(0, 16))];
      },
      (s) => {
        const blocks = alignedBlocks(8192).fill(0x41);
        return c.pwrite(s.fd("direct"), blocks, 4096);
      },
      (s) => s.pread("cached", 16384, 0),
      (s) => s.pwrite("cached", "through the cache", 4100),
      (s) => {
        const blocks = alignedBlocks(4096);
        c.pread(s.fd("direct"), blocks, 4096);
        return c.fromBytes(blocks.subarray(0, 32));
      },
      (s) => s.fsync("direct"),
    ],
  },
  {
    name: "open: O_NOATIME is the owner's",
    setup: (s) => {
      s.chmod(".", 0o777);
      s.put("file", "x", 0o666);
    },
    steps: [
      (s) => s.open("a", "file", c.O_NOATIME),
      by("user", fails("EPERM", (s) => s.open("a", "file", c.O_NOATIME))),
      by("user", (s) => s.put("own", "y")),
      by("user", (s) => s.open("b", "own", c.O_NOATIME)),
    ],
  },
];

/** So many bytes at an address that O_DIRECT takes: a multiple of 4096. */
function alignedBlocks(length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length + 4096);
  const address = Number(BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(whole))) % 4096n);
  return whole.subarray((4096 - address) % 4096, ((4096 - address) % 4096) + length);
}
