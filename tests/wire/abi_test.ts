/**
 * Sizes and field offsets of the kernel's structs, as numbers (compared with linux/fuse.h by hand).
 */

import assert from "node:assert/strict";
import {
  ATTR,
  ATTR_OUT,
  BATCH_FORGET_IN,
  COPY_FILE_RANGE_IN,
  COPY_FILE_RANGE_OUT,
  CREATE_IN,
  DIRENT,
  DIRENT_ALIGN_BYTES,
  ENTRY_OUT,
  FALLOCATE_IN,
  FORGET_IN,
  FORGET_ONE,
  FSYNC_IN,
  GETXATTR_IN,
  GETXATTR_OUT,
  IN_HEADER,
  INIT_IN,
  INIT_OUT,
  INTERRUPT_IN,
  LINK_IN,
  LSEEK_IN,
  LSEEK_OUT,
  MKDIR_IN,
  MKNOD_IN,
  NOTIFY_INVAL_ENTRY_OUT,
  NOTIFY_INVAL_INODE_OUT,
  OPCODE,
  OPEN_OUT,
  OUT_HEADER,
  READ_IN,
  RENAME2_IN,
  RENAME_IN,
  SETATTR_IN,
  SETXATTR_IN,
  STATFS_OUT,
  WRITE_IN,
  WRITE_OUT,
} from "../../src/fuse/abi.ts";
import { INIT_FLAGS } from "../../src/fuse/init_flags.ts";
import { OPS } from "../../src/fuse/ops.ts";

const ATTR_AT = {
  ino: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimensec: 48,
  mtimensec: 52,
  ctimensec: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blksize: 80,
  flags: 84,
};

function moved(at: Record<string, number>, by: number): Record<string, number> {
  return Object.fromEntries(Object.entries(at).map(([field, offset]) => [field, offset + by]));
}

const unused = (from: number, count: number, at: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`unused${from + i}`, at + 4 * i]));

const STRUCTS: readonly [string, { sizeBytes: number; at: object }, number, object][] = [
  ["fuse_in_header", IN_HEADER, 40, {
    len: 0,
    opcode: 4,
    unique: 8,
    nodeid: 16,
    uid: 24,
    gid: 28,
    pid: 32,
    total_extlen: 36,
    padding: 38,
  }],
  ["fuse_out_header", OUT_HEADER, 16, { len: 0, error: 4, unique: 8 }],
  ["fuse_attr", ATTR, 88, ATTR_AT],
  ["fuse_entry_out", ENTRY_OUT, 128, {
    nodeid: 0,
    generation: 8,
    entry_valid: 16,
    attr_valid: 24,
    entry_valid_nsec: 32,
    attr_valid_nsec: 36,
    ...moved(ATTR_AT, 40),
  }],
  ["fuse_attr_out", ATTR_OUT, 104, {
    attr_valid: 0,
    attr_valid_nsec: 8,
    dummy: 12,
    ...moved(ATTR_AT, 16),
  }],
  ["fuse_init_in", INIT_IN, 64, {
    major: 0,
    minor: 4,
    max_readahead: 8,
    flags: 12,
    flags2: 16,
    ...unused(0, 11, 20),
  }],
  ["fuse_init_out", INIT_OUT, 64, {
    major: 0,
    minor: 4,
    max_readahead: 8,
    flags: 12,
    max_background: 16,
    congestion_threshold: 18,
    max_write: 20,
    time_gran: 24,
    max_pages: 28,
    map_alignment: 30,
    flags2: 32,
    max_stack_depth: 36,
    request_timeout: 40,
    unused0: 42,
    ...unused(1, 5, 44),
  }],
  ["fuse_forget_in", FORGET_IN, 8, { nlookup: 0 }],
  ["fuse_batch_forget_in", BATCH_FORGET_IN, 8, { count: 0, dummy: 4 }],
  ["fuse_forget_one", FORGET_ONE, 16, { nodeid: 0, nlookup: 8 }],
  ["fuse_interrupt_in", INTERRUPT_IN, 8, { unique: 0 }],
  ["fuse_read_in", READ_IN, 40, {
    fh: 0,
    offset: 8,
    size: 16,
    read_flags: 20,
    lock_owner: 24,
    flags: 32,
    padding: 36,
  }],
  ["fuse_setattr_in", SETATTR_IN, 88, {
    valid: 0,
    padding: 4,
    fh: 8,
    size: 16,
    lock_owner: 24,
    atime: 32,
    mtime: 40,
    ctime: 48,
    atimensec: 56,
    mtimensec: 60,
    ctimensec: 64,
    mode: 68,
    unused4: 72,
    uid: 76,
    gid: 80,
    unused5: 84,
  }],
  ["fuse_mknod_in", MKNOD_IN, 16, { mode: 0, rdev: 4, umask: 8, padding: 12 }],
  ["fuse_mkdir_in", MKDIR_IN, 8, { mode: 0, umask: 4 }],
  ["fuse_create_in", CREATE_IN, 16, { flags: 0, mode: 4, umask: 8, open_flags: 12 }],
  ["fuse_open_out", OPEN_OUT, 16, { fh: 0, open_flags: 8, padding: 12 }],
  ["fuse_link_in", LINK_IN, 8, { oldnodeid: 0 }],
  ["fuse_rename_in", RENAME_IN, 8, { newdir: 0 }],
  ["fuse_rename2_in", RENAME2_IN, 16, { newdir: 0, flags: 8, padding: 12 }],
  ["fuse_write_in", WRITE_IN, 40, {
    fh: 0,
    offset: 8,
    size: 16,
    write_flags: 20,
    lock_owner: 24,
    flags: 32,
    padding: 36,
  }],
  ["fuse_write_out", WRITE_OUT, 8, { size: 0, padding: 4 }],
  ["fuse_fsync_in", FSYNC_IN, 16, { fh: 0, fsync_flags: 8, padding: 12 }],
  ["fuse_fallocate_in", FALLOCATE_IN, 32, { fh: 0, offset: 8, length: 16, mode: 24, padding: 28 }],
  ["fuse_lseek_in", LSEEK_IN, 24, { fh: 0, offset: 8, whence: 16, padding: 20 }],
  ["fuse_lseek_out", LSEEK_OUT, 8, { offset: 0 }],
  ["fuse_copy_file_range_in", COPY_FILE_RANGE_IN, 56, {
    fh_in: 0,
    off_in: 8,
    nodeid_out: 16,
    fh_out: 24,
    off_out: 32,
    len: 40,
    flags: 48,
  }],
  ["fuse_copy_file_range_out", COPY_FILE_RANGE_OUT, 8, { bytes_copied: 0 }],
  ["fuse_setxattr_in without its extension", SETXATTR_IN, 8, { size: 0, flags: 4 }],
  ["fuse_getxattr_in", GETXATTR_IN, 8, { size: 0, padding: 4 }],
  ["fuse_getxattr_out", GETXATTR_OUT, 8, { size: 0, padding: 4 }],
  ["fuse_notify_inval_inode_out", NOTIFY_INVAL_INODE_OUT, 24, { ino: 0, off: 8, len: 16 }],
  ["fuse_notify_inval_entry_out", NOTIFY_INVAL_ENTRY_OUT, 16, { parent: 0, namelen: 8, flags: 12 }],
  ["fuse_kstatfs", STATFS_OUT, 80, {
    blocks: 0,
    bfree: 8,
    bavail: 16,
    files: 24,
    ffree: 32,
    bsize: 40,
    namelen: 44,
    frsize: 48,
    padding: 52,
    spare0: 56,
    spare1: 60,
    spare2: 64,
    spare3: 68,
    spare4: 72,
    spare5: 76,
  }],
  ["fuse_dirent", DIRENT, 24, { ino: 0, off: 8, namelen: 16, type: 20 }],
];

for (const [name, layout, sizeBytes, at] of STRUCTS) {
  Deno.test(`struct ${name} is ${sizeBytes} bytes, each field at its offset`, () => {
    assert.equal(layout.sizeBytes, sizeBytes);
    assert.deepEqual({ ...layout.at }, at);
  });
}

Deno.test("fuse_direntplus is an entry_out and a dirent, records start at multiples of 8", () => {
  assert.equal(ENTRY_OUT.sizeBytes + DIRENT.sizeBytes, 152);
  assert.equal(DIRENT_ALIGN_BYTES, 8);
});

Deno.test("every opcode of the table but INIT has a row, and no row is without an opcode", () => {
  const missing = Object.entries(OPCODE).filter(([, opcode]) => !OPS.has(opcode));
  assert.deepEqual(missing.map(([name]) => name).sort(), [
    "FUSE_INIT", // the session's own
    "FUSE_REMOVEMAPPING", // virtiofs only
    "FUSE_SETUPMAPPING",
  ]);
  for (const [opcode, { name }] of OPS) {
    assert.equal((OPCODE as Record<string, number>)[`FUSE_${name}`], opcode);
  }
});

Deno.test("no two INIT flags share a bit, and bits 0 to 42 are all decided", () => {
  assert.deepEqual(INIT_FLAGS.map(({ bit }) => bit), Array.from({ length: 43 }, (_, bit) => bit));
  assert.equal(new Set(INIT_FLAGS.map(({ name }) => name)).size, 43);
  for (const { name, reason } of INIT_FLAGS) assert.ok(reason.length > 3, name);
});
