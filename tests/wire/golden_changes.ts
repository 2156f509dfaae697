/**
 * Golden bytes of the opcodes that change something. One long table: each message is spelled out,
 * since a piece shared by two of them could be wrong in both.
 */

import { ATTR, ENTRY } from "../fakes/fake_filesystem.ts";
import { ATTR_HEX, ENTRY_HEX, type Golden, NODE } from "./golden_parts.ts";

const OTHER_NODE = 0x12334455667788;
/** Of the request headers below. */
const CALLER = { uid: 1000, gid: 1001, pid: 4242 };

export const GOLDEN_CHANGES: readonly Golden[] = [
  {
    name: "SETATTR of everything",
    script: { setattr: () => ({ attr: ATTR, attrTimeoutMs: 86_400_250 }) },
    request: `
      80000000          # len 128
      04000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      7f0e0000          # valid: all but the NOWs; FH, LOCKOWNER, CTIME and KILL_SUIDGID too
      efbeadde          # padding
      efbeaddeefbeadde  # fh
      0500000001000000  # size
      efbeaddeefbeadde  # lock_owner
      8967452301000000  # atime
      feffffffffffffff  # mtime -2
      efbeadde00000000  # ctime
      ffc99a3b          # atimensec 999,999,999
      fecaad0b          # mtimensec
      efbeadde          # ctimensec
      ed890000          # mode
      efbeadde          # unused4
      0100feca          # uid
      0200feca          # gid
      efbeadde          # unused5
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
    calls: [["setattr", NODE, {
      killSuidGidFor: 1001,
      mode: 0o104755,
      uid: 0xcafe0001,
      gid: 0xcafe0002,
      sizeBytes: 0x100000005,
      atime: { seconds: 0x123456789, nanoseconds: 999_999_999 },
      mtime: { seconds: -2, nanoseconds: 0x0badcafe },
    }]],
    neededBytes: 88,
  },
  {
    name: "SETATTR of the times to now",
    script: { setattr: () => ({ attr: ATTR, attrTimeoutMs: 86_400_250 }) },
    request: `
      80000000          # len 128
      04000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      b0010000          # valid: ATIME, MTIME, ATIME_NOW, MTIME_NOW
      efbeadde          # padding
      ${"efbeadde".repeat(20)} # what does not count
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
    calls: [["setattr", NODE, { killSuidGidFor: null, atime: "now", mtime: "now" }]],
    neededBytes: 88,
  },
  {
    name: "SETATTR of nothing",
    script: { setattr: () => ({ attr: ATTR, attrTimeoutMs: 86_400_250 }) },
    request: `
      80000000          # len 128
      04000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      00000000          # valid
      efbeadde          # padding
      ${"efbeadde".repeat(20)} # what does not count
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
    calls: [["setattr", NODE, { killSuidGidFor: 1001 }]],
    neededBytes: 88,
  },
  {
    name: "MKNOD",
    script: { mknod: () => ENTRY },
    request: `
      3c000000          # len 60
      08000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      b6610000          # mode: a block device, 0666
      0300feca          # rdev
      12000000          # umask
      efbeadde          # padding
      61e9ff 00         # name
    `,
    reply: `
      90000000          # len 144
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
    `,
    calls: [["mknod", NODE, "a\xe9\xff", 0o060666, 0xcafe0003, CALLER]],
    neededBytes: 20,
  },
  {
    name: "MKDIR",
    script: { mkdir: () => ENTRY },
    request: `
      34000000          # len 52
      09000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      ed010000          # mode 0755
      12000000          # umask
      61e9ff 00         # name
    `,
    reply: `
      90000000          # len 144
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
    `,
    calls: [["mkdir", NODE, "a\xe9\xff", 0o755, CALLER]],
    neededBytes: 12,
  },
  {
    name: "SYMLINK",
    script: { symlink: () => ENTRY },
    request: `
      31000000          # len 49
      06000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      61e9ff 00         # name
      2e2e2fff 00       # target
    `,
    reply: `
      90000000          # len 144
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
    `,
    calls: [["symlink", NODE, "a\xe9\xff", "../\xff", CALLER]],
    neededBytes: 9,
  },
  {
    name: "LINK",
    script: { link: () => ENTRY },
    request: `
      34000000          # len 52
      0d000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      8877665544331200  # oldnodeid
      61e9ff 00         # name
    `,
    reply: `
      90000000          # len 144
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
    `,
    calls: [["link", OTHER_NODE, NODE, "a\xe9\xff"]],
    neededBytes: 12,
  },
  {
    name: "TMPFILE",
    script: { tmpfile: () => ENTRY },
    request: `
      3a000000          # len 58
      33000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      02804100          # flags
      a4810000          # mode
      12000000          # umask
      efbeadde          # open_flags
      2f 00             # name
    `,
    reply: `
      a0000000          # len 160
      00000000          # error
      efbeaddebebafeca  # unique
      ${ENTRY_HEX}
      0000000000000000  # fh: there are none
      00000000          # open_flags
      00000000          # padding
    `,
    calls: [["tmpfile", NODE, 0o100644, CALLER]],
    neededBytes: 16,
  },
  {
    name: "UNLINK",
    script: { unlink: () => {} },
    request: `
      2c000000          # len 44
      0a000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      61e9ff 00         # name
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["unlink", NODE, "a\xe9\xff"]],
    neededBytes: 4,
  },
  {
    name: "RMDIR",
    script: { rmdir: () => {} },
    request: `
      2c000000          # len 44
      0b000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      61e9ff 00         # name
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["rmdir", NODE, "a\xe9\xff"]],
    neededBytes: 4,
  },
  {
    name: "RENAME",
    script: { rename: () => {} },
    request: `
      37000000          # len 55
      0c000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      8877665544331200  # newdir
      61e9ff 00         # name
      6263 00           # newname
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["rename", NODE, "a\xe9\xff", OTHER_NODE, "bc", 0]],
    neededBytes: 15,
  },
  {
    name: "RENAME2",
    script: { rename: () => {} },
    request: `
      3f000000          # len 63
      2d000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      8877665544331200  # newdir
      02000000          # flags RENAME_EXCHANGE
      efbeadde          # padding
      61e9ff 00         # name
      6263 00           # newname
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["rename", NODE, "a\xe9\xff", OTHER_NODE, "bc", 2]],
    neededBytes: 23,
  },
  {
    name: "WRITE",
    script: { write: () => 5 },
    request: `
      55000000          # len 85
      10000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      0010000001000000  # offset
      05000000          # size
      04000000          # write_flags: KILL_SUIDGID
      efbeaddeefbeadde  # lock_owner
      01800000          # flags
      efbeadde          # padding
      deadbeef 00       # data
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      05000000          # size
      00000000          # padding
    `,
    calls: [["write", NODE, 0x100001000, "\xde\xad\xbe\xef\x00", 1001]],
    neededBytes: 45,
  },
  {
    name: "WRITE of a page of the cache",
    script: { write: () => 1 },
    request: `
      51000000          # len 81
      10000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      0200000000000000  # offset
      01000000          # size
      03000000          # write_flags: CACHE, LOCKOWNER
      efbeaddeefbeadde  # lock_owner
      01800000          # flags
      efbeadde          # padding
      ff                # data
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      01000000          # size
      00000000          # padding
    `,
    calls: [["write", NODE, 2, "\xff", null]],
    neededBytes: 41,
  },
  {
    name: "FALLOCATE",
    script: { fallocate: () => {} },
    request: `
      48000000          # len 72
      2b000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      0010000001000000  # offset
      0500000002000000  # length
      03000000          # mode: PUNCH_HOLE, KEEP_SIZE
      efbeadde          # padding
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["fallocate", NODE, 3, 0x100001000, 0x200000005]],
    neededBytes: 32,
  },
  {
    name: "COPY_FILE_RANGE",
    script: { copyFileRange: () => 0x12345678 },
    request: `
      60000000          # len 96
      2f000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh_in
      0010000001000000  # off_in
      8877665544331200  # nodeid_out
      efbeaddeefbeadde  # fh_out
      0020000002000000  # off_out
      0030000003000000  # len
      0000000000000000  # flags
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      78563412          # size
      00000000          # padding
    `,
    calls: [["copyFileRange", NODE, 0x100001000, OTHER_NODE, 0x200002000, 0xfffff000]],
    neededBytes: 56,
  },
  {
    name: "COPY_FILE_RANGE_64",
    script: { copyFileRange: () => 0x300000001 },
    request: `
      60000000          # len 96
      35000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh_in
      0010000001000000  # off_in
      8877665544331200  # nodeid_out
      efbeaddeefbeadde  # fh_out
      0020000002000000  # off_out
      0030000003000000  # len
      0000000000000000  # flags
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      0100000003000000  # bytes_copied
    `,
    calls: [["copyFileRange", NODE, 0x100001000, OTHER_NODE, 0x200002000, 0x300003000]],
    neededBytes: 56,
  },
  {
    name: "FSYNC",
    script: { fsync: () => {} },
    request: `
      38000000          # len 56
      14000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      00000000          # fsync_flags
      efbeadde          # padding
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["fsync", NODE, false]],
    neededBytes: 16,
  },
  {
    name: "FSYNC of the data",
    script: { fsync: () => {} },
    request: `
      38000000          # len 56
      14000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      01000000          # fsync_flags: FDATASYNC
      efbeadde          # padding
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["fsync", NODE, true]],
    neededBytes: 16,
  },
  {
    name: "FSYNCDIR",
    script: { fsyncdir: () => {} },
    request: `
      38000000          # len 56
      1e000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      00000000          # fsync_flags
      efbeadde          # padding
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["fsyncdir", NODE, false]],
    neededBytes: 16,
  },
  {
    name: "FSYNCDIR of the data",
    script: { fsyncdir: () => {} },
    request: `
      38000000          # len 56
      1e000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      efbeaddeefbeadde  # fh
      01000000          # fsync_flags: FDATASYNC
      efbeadde          # padding
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["fsyncdir", NODE, true]],
    neededBytes: 16,
  },
  {
    name: "GETXATTR",
    script: { hasXattrs: true, getxattr: () => Uint8Array.of(0xde, 0xad, 0) },
    request: `
      37000000          # len 55
      16000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      03000000          # size
      efbeadde          # padding
      757365722e7800    # name user.x
    `,
    reply: `
      13000000          # len 19
      00000000          # error
      efbeaddebebafeca  # unique
      dead00            # the value
    `,
    calls: [["getxattr", NODE, "user.x"]],
    neededBytes: 15,
  },
  {
    name: "GETXATTR of the size",
    script: { hasXattrs: true, getxattr: () => new Uint8Array(0x0102) },
    request: `
      37000000          # len 55
      16000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      00000000          # size
      efbeadde          # padding
      757365722e7800    # name user.x
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      02010000          # size
      00000000          # padding
    `,
    calls: [["getxattr", NODE, "user.x"]],
    neededBytes: 15,
  },
  {
    name: "LISTXATTR",
    script: { hasXattrs: true, listxattr: () => Uint8Array.of(0x61, 0, 0x62, 0) },
    request: `
      30000000          # len 48
      17000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      00010000          # size
      efbeadde          # padding
    `,
    reply: `
      14000000          # len 20
      00000000          # error
      efbeaddebebafeca  # unique
      6100 6200         # the names
    `,
    calls: [["listxattr", NODE]],
    neededBytes: 8,
  },
  {
    name: "LISTXATTR of the size",
    script: { hasXattrs: true, listxattr: () => new Uint8Array(0x0304) },
    request: `
      30000000          # len 48
      17000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      00000000          # size
      efbeadde          # padding
    `,
    reply: `
      18000000          # len 24
      00000000          # error
      efbeaddebebafeca  # unique
      04030000          # size
      00000000          # padding
    `,
    calls: [["listxattr", NODE]],
    neededBytes: 8,
  },
  {
    name: "SETXATTR",
    script: { hasXattrs: true, setxattr: () => {} },
    request: `
      3a000000          # len 58
      15000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      03000000          # size
      02000000          # flags XATTR_REPLACE
      757365722e7800    # name user.x
      dead00            # the value
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["setxattr", NODE, "user.x", "\xde\xad\x00", 2]],
    neededBytes: 18,
  },
  {
    name: "REMOVEXATTR",
    script: { hasXattrs: true, removexattr: () => {} },
    request: `
      2f000000          # len 47
      18000000          # opcode
      efbeaddebebafeca  # unique
      7867564534231200  # nodeid
      e8030000          # uid
      e9030000          # gid
      92100000          # pid
      0000 0000         # total_extlen, padding
      757365722e7800    # name user.x
    `,
    reply: `
      10000000          # len 16
      00000000          # error
      efbeaddebebafeca  # unique
    `,
    calls: [["removexattr", NODE, "user.x"]],
    neededBytes: 7,
  },
];
