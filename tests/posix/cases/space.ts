/** fallocate(2) in all its modes, statfs(2). */

import { fails, type PosixCase, refusable } from "../case.ts";
import * as c from "../syscalls.ts";

const { FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, O_CREAT, O_RDWR } = c;
const PUNCH = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
/** A multiple of every usual block size. */
const BLOCK = 4096;

export const SPACE: readonly PosixCase[] = [
  {
    name: "fallocate: allocating",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file", O_RDWR),
      (s) => s.times(["file"], () => s.fallocate("a", 0, 0, 100)),
      (s) => s.fstat("a"),
      (s) => s.times(["file"], () => s.fallocate("a", 0, 4000, 6000)),
      (s) => s.fstat("a"),
      (s) => s.cat("file"),
      (s) => s.fallocate("a", FALLOC_KEEP_SIZE, 0, 100_000),
      (s) => s.fstat("a"),
      (s) => s.cat("file"),
      (s) => s.open("e", "empty", O_RDWR),
      (s) => s.fallocate("e", 0, 10_000, 1),
      (s) => s.cat("empty"),
      (s) => s.holesAreTrue("e"),
    ],
  },
  {
    name: "fallocate: punching holes",
    fixture: ["large"],
    steps: [
      (s) => s.open("a", "large", O_RDWR),
      (s) => s.times(["large"], () => s.fallocate("a", PUNCH, 10 * BLOCK, 5 * BLOCK)),
      (s) => s.pread("a", 7 * BLOCK, 9 * BLOCK),
      (s) => s.fallocate("a", PUNCH, 100, 50),
      (s) => s.pread("a", 200, 0),
      (s) => s.fallocate("a", PUNCH, 3 << 20, 1 << 20),
      (s) => s.fallocate("a", PUNCH, (3 << 20) - 10, 1000),
      (s) => s.fstat("a"),
      (s) => s.cat("large"),
      (s) => s.holesAreTrue("a"),
      fails("EOPNOTSUPP", (s) => s.fallocate("a", FALLOC_PUNCH_HOLE, 0, BLOCK)),
    ],
  },
  {
    name: "fallocate: zeroing",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file", O_RDWR),
      (s) => s.fallocate("a", FALLOC_ZERO_RANGE, 10, 100),
      (s) => s.pread("a", 130, 0),
      (s) => s.fallocate("a", FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, 4900, 5000),
      (s) => s.fstat("a"),
      (s) => s.cat("file"),
      (s) => s.fallocate("a", FALLOC_ZERO_RANGE, 4000, 5000),
      (s) => s.fstat("a"),
      (s) => s.cat("file"),
      (s) => s.holesAreTrue("a"),
    ],
  },
  {
    name: "fallocate: collapsing a range",
    fixture: ["large"],
    steps: [
      (s) => s.open("a", "large", O_RDWR),
      refusable("EOPNOTSUPP", (s) => s.fallocate("a", c.FALLOC_COLLAPSE_RANGE, BLOCK, BLOCK)),
      (s) => s.fstat("a"),
      (s) => s.cat("large"),
    ],
  },
  {
    name: "fallocate: inserting a range",
    fixture: ["large"],
    steps: [
      (s) => s.open("a", "large", O_RDWR),
      refusable("EOPNOTSUPP", (s) => s.fallocate("a", c.FALLOC_INSERT_RANGE, BLOCK, BLOCK)),
      (s) => s.fstat("a"),
      (s) => s.cat("large"),
    ],
  },
  {
    name: "fallocate: what is refused",
    fixture: ["small"],
    steps: [
      (s) => s.open("a", "file", O_RDWR),
      (s) => s.open("r", "file"),
      (s) => s.open("d", "dir"),
      (s) => s.mknod("fifo", c.S_IFIFO | 0o644),
      (s) => s.open("f", "fifo", O_RDWR),
      fails("EINVAL", (s) => s.fallocate("a", 0, -1, 10)),
      fails("EINVAL", (s) => s.fallocate("a", 0, 0, 0)),
      fails("EINVAL", (s) => s.fallocate("a", 0, 0, -10)),
      fails("EBADF", (s) => s.fallocate("r", 0, 0, 10)),
      fails("EBADF", (s) => s.fallocate("d", 0, 0, 10)),
      fails("ESPIPE", (s) => s.fallocate("f", 0, 0, 10)),
      fails("EOPNOTSUPP", (s) => s.fallocate("a", 0x4000, 0, 10)),
      fails("EOPNOTSUPP", (s) => s.fallocate("a", c.FALLOC_UNSHARE_RANGE, 0, 10)),
    ],
  },
  {
    name: "statfs: figures that can be true",
    fixture: ["small"],
    steps: [
      (s) => s.statfs("."),
      (s) => s.statfs("file"),
      (s) => s.statfs("link"),
      fails("ENOENT", (s) => s.statfs("none")),
      (s) => s.open("a", "new", O_RDWR | O_CREAT),
      (s) => s.statfs("new"),
    ],
  },
];
