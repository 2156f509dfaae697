/**
 * Requests and their replies, byte by byte. Each field group stands on a line of its own; numbers
 * are little-endian. `reply` null: this opcode has none.
 */

import type { DirentSink } from "../../src/fuse/filesystem.ts";
import type { Name } from "../../src/path.ts";
import { ATTR, ENTRY, NO_ATTR } from "../fakes/fake_filesystem.ts";
import { GOLDEN_CHANGES } from "./golden_changes.ts";
import { ATTR_HEX, ENTRY_HEX, type Golden, NODE } from "./golden_parts.ts";

const READ_BODY_REST = `
  00000000          # read_flags
  efbeaddeefbeadde  # lock_owner
  00800000          # flags
  00000000          # padding
`;

const GOLDEN_READS: readonly Golden[] = [
  {
    name: "LOOKUP",
    script: { lookup: () => ENTRY },
    request: `
      2c000000          # len 44
      01000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      61e9ff 00         # name: any bytes, NUL
    `,
    reply: `
      90000000          # len 144
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
    `,
    calls: [["lookup", NODE, "a\xe9\xff"]],
    neededBytes: 4,
  },
  {
    name: "LOOKUP of a name that is not there",
    script: {
      lookup: () => ({
        nodeid: 0,
        entryTimeoutMs: 86_400_000,
        attrTimeoutMs: 0,
        attr: NO_ATTR,
      }),
    },
    request: `
      2a000000          # len 42
      01000000          # opcode
      0100000000000080  # unique
      0100000000000000  # nodeid
      000000000000000000000000 0000 0000
      78 00             # name
    `,
    reply: `
      90000000          # len 144
      00000000          # error: none, the kernel keeps the absence
      0100000000000080  # unique
      0000000000000000  # nodeid 0: negative
      0000000000000000  # generation
      8051010000000000  # entry_valid
      0000000000000000  # attr_valid
      00000000 00000000 # entry_valid_nsec, attr_valid_nsec
      0000000000000000  # ino
      0000000000000000  # size
      0000000000000000  # blocks
      0000000000000000 0000000000000000 0000000000000000 # times
      00000000 00000000 00000000 # their nanoseconds
      00000000          # mode
      00000000          # nlink
      00000000 00000000 # uid, gid
      00000000          # rdev
      00100000          # blksize
      00000000          # flags
    `,
    calls: [["lookup", 1, "x"]],
    neededBytes: 2,
  },
  {
    name: "FORGET",
    script: {},
    request: `
      30000000          # len 48
      02000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      0300000001000000  # nlookup
    `,
    reply: null,
    calls: [["forget", NODE, 0x100000003]],
    neededBytes: 8,
  },
  {
    name: "BATCH_FORGET",
    script: {},
    request: `
      50000000          # len 80
      2a000000          # opcode
      efbeaddebebafeca  # unique
      0000000000000000  # nodeid: none
      000000000000000000000000 0000 0000
      02000000          # count
      efbeadde          # dummy
      7867564534231200 0300000001000000 # nodeid, nlookup
      0200000000000000 0100000000000000 # nodeid, nlookup
    `,
    reply: null,
    calls: [["forget", NODE, 0x100000003], ["forget", 2, 1]],
    neededBytes: 40,
  },
  {
    name: "GETATTR",
    script: { getattr: () => ({ attr: ATTR, attrTimeoutMs: 86_400_250 }) },
    request: `
      38000000          # len 56
      03000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      01000000          # getattr_flags: FUSE_GETATTR_FH
      efbeadde          # dummy
      efbeaddeefbeadde  # fh
    `,
    reply: `
      78000000          # len 120
      00000000          # error
      efbeaddebebafeca  # unique
      8051010000000000  # attr_valid 86400
      80b2e60e          # attr_valid_nsec 250,000,000
      00000000          # dummy
      ${ATTR_HEX}
    `,
    calls: [["getattr", NODE]],
    neededBytes: 0,
  },
  {
    name: "READLINK",
    script: { readlink: () => Uint8Array.of(0x2e, 0x2e, 0x2f, 0xff) },
    request: `
      28000000          # len 40
      05000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
    `,
    reply: `
      14000000          # len 20
      00000000          # error
      efbeaddebebafeca  # unique
      2e2e2fff          # the target, no NUL
    `,
    calls: [["readlink", NODE]],
    neededBytes: 0,
  },
  {
    name: "READ",
    script: {
      read: (_nodeid, _offset, into) => {
        into.set([0xde, 0xad, 0xbe, 0xef, 0x00]);
        return 5;
      },
    },
    request: `
      50000000          # len 80
      0f000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      efbeaddeefbeadde  # fh
      0010000001000000  # offset
      00100000          # size
      ${READ_BODY_REST}
    `,
    reply: `
      15000000          # len 21
      00000000          # error
      efbeaddebebafeca  # unique
      deadbeef 00       # data
    `,
    calls: [["read", NODE, 0x100001000, 4096]],
    neededBytes: 40,
  },
  {
    name: "READDIR",
    script: {
      readdir: (_nodeid: number, _offset: number, sink: DirentSink) => {
        sink.add("." as Name, 0x1fedcba9876543, 4, 1);
        sink.add("eight008" as Name, 2, 8, 0x100000005);
      },
    },
    request: `
      50000000          # len 80
      1c000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      efbeaddeefbeadde  # fh
      0300000000000000  # offset
      40000000          # size
      ${READ_BODY_REST}
    `,
    reply: `
      50000000          # len 80
      00000000          # error
      efbeaddebebafeca  # unique
      436587a9cbed1f00  # ino
      0100000000000000  # off
      01000000          # namelen
      04000000          # type
      2e 00000000000000 # name, padding
      0200000000000000  # ino
      0500000001000000  # off
      08000000          # namelen
      08000000          # type
      6569676874303038  # name, no padding
    `,
    calls: [["readdir", NODE, 3]],
    neededBytes: 40,
  },
  {
    name: "READDIRPLUS",
    script: {
      readdirplus: (_nodeid: number, _offset: number, sink: DirentSink) => {
        sink.addPlus(".." as Name, 7, 4, 2, null);
        sink.addPlus("x" as Name, 0x1fedcba9876543, 10, 0x100000005, ENTRY);
      },
    },
    request: `
      50000000          # len 80
      2c000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      efbeaddeefbeadde  # fh
      0100000000000000  # offset
      00100000          # size
      ${READ_BODY_REST}
    `,
    reply: `
      50010000          # len 336
      00000000          # error
      efbeaddebebafeca  # unique
      0000000000000000  # nodeid 0: no entry for ".."
      ${"0000000000000000".repeat(15)} # the rest of its entry_out
      0700000000000000  # ino
      0200000000000000  # off
      02000000          # namelen
      04000000          # type
      2e2e 000000000000 # name, padding
      ${ENTRY_HEX}
      436587a9cbed1f00  # ino
      0500000001000000  # off
      01000000          # namelen
      0a000000          # type
      78 00000000000000 # name, padding
    `,
    calls: [["readdirplus", NODE, 1]],
    neededBytes: 40,
  },
  {
    name: "STATFS",
    script: {
      statfs: () => ({
        blocks: 0x1f0000000a,
        freeBlocks: 0x1e0000000b,
        availableBlocks: 0x1d0000000c,
        files: 0x1c0000000d,
        freeFiles: 0x1b0000000e,
        blockSizeBytes: 0x1000,
        nameMaxBytes: 255,
        fragmentSizeBytes: 0x200,
      }),
    },
    request: `
      28000000          # len 40
      11000000          # opcode
      efbeaddebebafeca  # unique
      0100000000000000  # nodeid
      000000000000000000000000 0000 0000
    `,
    reply: `
      60000000          # len 96
      00000000          # error
      efbeaddebebafeca  # unique
      0a0000001f000000  # blocks
      0b0000001e000000  # bfree
      0c0000001d000000  # bavail
      0d0000001c000000  # files
      0e0000001b000000  # ffree
      00100000          # bsize
      ff000000          # namelen
      00020000          # frsize
      00000000          # padding
      000000000000000000000000000000000000000000000000 # spare
    `,
    calls: [["statfs"]],
    neededBytes: 0,
  },
  {
    name: "LSEEK",
    script: { lseek: () => 0x300000007 },
    request: `
      40000000          # len 64
      2e000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      efbeaddeefbeadde  # fh
      0010000001000000  # offset
      03000000          # whence SEEK_DATA
      efbeadde          # padding
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      0700000003000000  # offset
    `,
    calls: [["lseek", NODE, 0x100001000, 3]],
    neededBytes: 24,
  },
  {
    name: "INTERRUPT of what is answered already",
    script: {},
    request: `
      30000000          # len 48
      24000000          # opcode
      efbeaddebebafeca  # unique
      0000000000000000  # nodeid
      000000000000000000000000 0000 0000
      1100000000000000  # unique of the interrupted
    `,
    reply: null,
    calls: [],
    neededBytes: 8,
  },
  {
    name: "NOTIFY_REPLY",
    script: {},
    request: `
      50000000          # len 80
      29000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      000000000000000000000000 0000 0000
      efbeaddeefbeadde efbeaddeefbeadde efbeaddeefbeadde efbeaddeefbeadde efbeaddeefbeadde
    `,
    reply: null,
    calls: [],
    neededBytes: 0,
  },
  {
    name: "DESTROY",
    script: {},
    request: `
      28000000          # len 40
      26000000          # opcode
      efbeaddebebafeca  # unique
      0000000000000000  # nodeid
      000000000000000000000000 0000 0000
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [],
    neededBytes: 0,
  },
];

export const GOLDEN: readonly Golden[] = [...GOLDEN_READS, ...GOLDEN_CHANGES];

/** Answered from the header alone: opcode, name, body (of some its start), errno of the answer. */
export const FIXED_ANSWERS: readonly (readonly [number, string, string, number])[] = [
  [14, "OPEN", "00800000 00000000", 38],
  [27, "OPENDIR", "00880300 00000000", 38],
  [25, "FLUSH", "efbeaddeefbeadde 00000000 00000000 efbeaddeefbeadde", 38],
  [34, "ACCESS", "04000000 00000000", 38],
  [52, "STATX", "00000000 00000000 efbeaddeefbeadde 00000000 ff0f0000", 38],
  [22, "GETXATTR", "00000000 00000000 757365722e7800", 38],
  [23, "LISTXATTR", "00010000 00000000", 38],
  [37, "BMAP", "0100000000000000 00100000 00000000", 38],
  [39, "IOCTL", "efbeaddeefbeadde 00000000 01540000 efbeaddeefbeadde 00000000 00000000", 38],
  [40, "POLL", "efbeaddeefbeadde efbeaddeefbeadde 00000000 01000000", 38],
  [
    31,
    "GETLK",
    "efbeaddeefbeadde efbeaddeefbeadde 0000000000000000 ffffffffffffff7f 00000000 01000000" +
    "00000000 00000000",
    38,
  ],
  [32, "SETLK", "efbeaddeefbeadde", 38],
  [33, "SETLKW", "efbeaddeefbeadde", 38],
  [50, "SYNCFS", "0000000000000000", 38],
  [18, "RELEASE", "efbeaddeefbeadde 00800000 00000000 efbeaddeefbeadde", 0],
  [29, "RELEASEDIR", "efbeaddeefbeadde 00800000 00000000 efbeaddeefbeadde", 0],
  [21, "SETXATTR", "01000000 00000000 757365722e7800 31", 38],
  [24, "REMOVEXATTR", "757365722e7800", 38],
  [35, "CREATE", "42800000 a4810000 12000000 00000000 6100", 38],
];
