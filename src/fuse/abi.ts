/**
 * The kernel's FUSE structs (include/uapi/linux/fuse.h, protocol 7.45), one field list each, in
 * kernel order. Offsets are computed once, here; nobody else does arithmetic. Sizes are asserted
 * when the module loads.
 */

import { Bug } from "../failure.ts";

export const FUSE_KERNEL_VERSION = 7;
/** Oldest minor version spoken: INIT answers below it are refused. */
export const FUSE_MINOR_MIN = 31;
/** Newest minor version spoken. */
export const FUSE_MINOR_MAX = 45;
export const FUSE_ROOT_ID = 1;

export const OPCODE = {
  FUSE_LOOKUP: 1,
  FUSE_FORGET: 2,
  FUSE_GETATTR: 3,
  FUSE_SETATTR: 4,
  FUSE_READLINK: 5,
  FUSE_SYMLINK: 6,
  FUSE_MKNOD: 8,
  FUSE_MKDIR: 9,
  FUSE_UNLINK: 10,
  FUSE_RMDIR: 11,
  FUSE_RENAME: 12,
  FUSE_LINK: 13,
  FUSE_OPEN: 14,
  FUSE_READ: 15,
  FUSE_WRITE: 16,
  FUSE_STATFS: 17,
  FUSE_RELEASE: 18,
  FUSE_FSYNC: 20,
  FUSE_SETXATTR: 21,
  FUSE_GETXATTR: 22,
  FUSE_LISTXATTR: 23,
  FUSE_REMOVEXATTR: 24,
  FUSE_FLUSH: 25,
  FUSE_INIT: 26,
  FUSE_OPENDIR: 27,
  FUSE_READDIR: 28,
  FUSE_RELEASEDIR: 29,
  FUSE_FSYNCDIR: 30,
  FUSE_GETLK: 31,
  FUSE_SETLK: 32,
  FUSE_SETLKW: 33,
  FUSE_ACCESS: 34,
  FUSE_CREATE: 35,
  FUSE_INTERRUPT: 36,
  FUSE_BMAP: 37,
  FUSE_DESTROY: 38,
  FUSE_IOCTL: 39,
  FUSE_POLL: 40,
  FUSE_NOTIFY_REPLY: 41,
  FUSE_BATCH_FORGET: 42,
  FUSE_FALLOCATE: 43,
  FUSE_READDIRPLUS: 44,
  FUSE_RENAME2: 45,
  FUSE_LSEEK: 46,
  FUSE_COPY_FILE_RANGE: 47,
  FUSE_SETUPMAPPING: 48,
  FUSE_REMOVEMAPPING: 49,
  FUSE_SYNCFS: 50,
  FUSE_TMPFILE: 51,
  FUSE_STATX: 52,
  FUSE_COPY_FILE_RANGE_64: 53,
} as const;

type FieldType = "u16" | "u32" | "i32" | "u64" | "pad4";
const BYTES: Readonly<Record<FieldType, number>> = { u16: 2, u32: 4, i32: 4, u64: 8, pad4: 4 };

export interface Layout<Field extends string> {
  /** Byte offset of each field. */
  readonly at: Readonly<Record<Field, number>>;
  readonly sizeBytes: number;
}

function layout<const Fields extends readonly (readonly [string, FieldType])[]>(
  name: string,
  expectedBytes: number,
  fields: Fields,
): Layout<Fields[number][0]> {
  const at: Record<string, number> = {};
  let offset = 0;
  for (const [field, type] of fields) {
    const bytes = BYTES[type];
    if (offset % bytes !== 0) throw new Bug(`${name}.${field} is not aligned`);
    at[field] = offset;
    offset += bytes;
  }
  if (offset !== expectedBytes) throw new Bug(`${name} has ${offset} bytes, not ${expectedBytes}`);
  return Object.freeze({
    at: Object.freeze(at) as Record<Fields[number][0], number>,
    sizeBytes: offset,
  });
}

export const IN_HEADER = layout("fuse_in_header", 40, [
  ["len", "u32"],
  ["opcode", "u32"],
  ["unique", "u64"],
  ["nodeid", "u64"],
  ["uid", "u32"],
  ["gid", "u32"],
  ["pid", "u32"],
  ["total_extlen", "u16"],
  ["padding", "u16"],
]);

export const OUT_HEADER = layout("fuse_out_header", 16, [
  ["len", "u32"],
  ["error", "i32"],
  ["unique", "u64"],
]);

const ATTR_FIELDS = [
  ["ino", "u64"],
  ["size", "u64"],
  ["blocks", "u64"],
  ["atime", "u64"],
  ["mtime", "u64"],
  ["ctime", "u64"],
  ["atimensec", "u32"],
  ["mtimensec", "u32"],
  ["ctimensec", "u32"],
  ["mode", "u32"],
  ["nlink", "u32"],
  ["uid", "u32"],
  ["gid", "u32"],
  ["rdev", "u32"],
  ["blksize", "u32"],
  ["flags", "u32"],
] as const;

export const ATTR = layout("fuse_attr", 88, ATTR_FIELDS);

export const ENTRY_OUT = layout("fuse_entry_out", 128, [
  ["nodeid", "u64"],
  ["generation", "u64"],
  ["entry_valid", "u64"],
  ["attr_valid", "u64"],
  ["entry_valid_nsec", "u32"],
  ["attr_valid_nsec", "u32"],
  ...ATTR_FIELDS,
]);

export const ATTR_OUT = layout("fuse_attr_out", 104, [
  ["attr_valid", "u64"],
  ["attr_valid_nsec", "u32"],
  ["dummy", "u32"],
  ...ATTR_FIELDS,
]);

/** Kernels before 7.36 send the first 16 bytes only (fuse_send_init in fs/fuse/inode.c). */
export const INIT_IN = layout("fuse_init_in", 64, [
  ["major", "u32"],
  ["minor", "u32"],
  ["max_readahead", "u32"],
  ["flags", "u32"],
  ["flags2", "u32"],
  ...Array.from({ length: 11 }, (_, i) => [`unused${i}`, "u32"] as const),
]);
export const INIT_IN_MIN_BYTES = 16;

export const INIT_OUT = layout("fuse_init_out", 64, [
  ["major", "u32"],
  ["minor", "u32"],
  ["max_readahead", "u32"],
  ["flags", "u32"],
  ["max_background", "u16"],
  ["congestion_threshold", "u16"],
  ["max_write", "u32"],
  ["time_gran", "u32"],
  ["max_pages", "u16"],
  ["map_alignment", "u16"],
  ["flags2", "u32"],
  ["max_stack_depth", "u32"],
  ["request_timeout", "u16"],
  ["unused0", "u16"],
  ...Array.from({ length: 5 }, (_, i) => [`unused${i + 1}`, "u32"] as const),
]);

export const FORGET_IN = layout("fuse_forget_in", 8, [["nlookup", "u64"]]);

export const BATCH_FORGET_IN = layout("fuse_batch_forget_in", 8, [
  ["count", "u32"],
  ["dummy", "u32"],
]);

export const FORGET_ONE = layout("fuse_forget_one", 16, [["nodeid", "u64"], ["nlookup", "u64"]]);

export const INTERRUPT_IN = layout("fuse_interrupt_in", 8, [["unique", "u64"]]);

export const READ_IN = layout("fuse_read_in", 40, [
  ["fh", "u64"],
  ["offset", "u64"],
  ["size", "u32"],
  ["read_flags", "u32"],
  ["lock_owner", "u64"],
  ["flags", "u32"],
  ["padding", "u32"],
]);

/** Which fields of fuse_setattr_in count (`valid`). */
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_KILL_SUIDGID = 1 << 11;

export const SETATTR_IN = layout("fuse_setattr_in", 88, [
  ["valid", "u32"],
  ["padding", "u32"],
  ["fh", "u64"],
  ["size", "u64"],
  ["lock_owner", "u64"],
  ["atime", "u64"],
  ["mtime", "u64"],
  ["ctime", "u64"],
  ["atimensec", "u32"],
  ["mtimensec", "u32"],
  ["ctimensec", "u32"],
  ["mode", "u32"],
  ["unused4", "u32"],
  ["uid", "u32"],
  ["gid", "u32"],
  ["unused5", "u32"],
]);

export const MKNOD_IN = layout("fuse_mknod_in", 16, [
  ["mode", "u32"],
  ["rdev", "u32"],
  ["umask", "u32"],
  ["padding", "u32"],
]);

export const MKDIR_IN = layout("fuse_mkdir_in", 8, [["mode", "u32"], ["umask", "u32"]]);

/** Of CREATE and TMPFILE. */
export const CREATE_IN = layout("fuse_create_in", 16, [
  ["flags", "u32"],
  ["mode", "u32"],
  ["umask", "u32"],
  ["open_flags", "u32"],
]);

/** Behind the entry_out in the reply to CREATE and TMPFILE. */
export const OPEN_OUT = layout("fuse_open_out", 16, [
  ["fh", "u64"],
  ["open_flags", "u32"],
  ["padding", "u32"],
]);

export const LINK_IN = layout("fuse_link_in", 8, [["oldnodeid", "u64"]]);

export const RENAME_IN = layout("fuse_rename_in", 8, [["newdir", "u64"]]);

export const RENAME2_IN = layout("fuse_rename2_in", 16, [
  ["newdir", "u64"],
  ["flags", "u32"],
  ["padding", "u32"],
]);

/** Bit of write_flags: the writer may not keep setuid and setgid (no CAP_FSETID). */
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;

export const WRITE_IN = layout("fuse_write_in", 40, [
  ["fh", "u64"],
  ["offset", "u64"],
  ["size", "u32"],
  ["write_flags", "u32"],
  ["lock_owner", "u64"],
  ["flags", "u32"],
  ["padding", "u32"],
]);

export const WRITE_OUT = layout("fuse_write_out", 8, [["size", "u32"], ["padding", "u32"]]);

/** Bit of fsync_flags: fdatasync. */
export const FUSE_FSYNC_FDATASYNC = 1 << 0;

export const FSYNC_IN = layout("fuse_fsync_in", 16, [
  ["fh", "u64"],
  ["fsync_flags", "u32"],
  ["padding", "u32"],
]);

export const FALLOCATE_IN = layout("fuse_fallocate_in", 32, [
  ["fh", "u64"],
  ["offset", "u64"],
  ["length", "u64"],
  ["mode", "u32"],
  ["padding", "u32"],
]);

export const LSEEK_IN = layout("fuse_lseek_in", 24, [
  ["fh", "u64"],
  ["offset", "u64"],
  ["whence", "u32"],
  ["padding", "u32"],
]);

export const LSEEK_OUT = layout("fuse_lseek_out", 8, [["offset", "u64"]]);

export const COPY_FILE_RANGE_IN = layout("fuse_copy_file_range_in", 56, [
  ["fh_in", "u64"],
  ["off_in", "u64"],
  ["nodeid_out", "u64"],
  ["fh_out", "u64"],
  ["off_out", "u64"],
  ["len", "u64"],
  ["flags", "u64"],
]);

/** Of COPY_FILE_RANGE_64; COPY_FILE_RANGE is answered with a fuse_write_out. */
export const COPY_FILE_RANGE_OUT = layout("fuse_copy_file_range_out", 8, [
  ["bytes_copied", "u64"],
]);

/** As sent without FUSE_SETXATTR_EXT (FUSE_COMPAT_SETXATTR_IN_SIZE). */
export const SETXATTR_IN = layout("fuse_setxattr_in", 8, [["size", "u32"], ["flags", "u32"]]);

/** Of GETXATTR and LISTXATTR. */
export const GETXATTR_IN = layout("fuse_getxattr_in", 8, [["size", "u32"], ["padding", "u32"]]);

export const GETXATTR_OUT = layout("fuse_getxattr_out", 8, [["size", "u32"], ["padding", "u32"]]);

/** What a server says without being asked: this in the header's error field, unique 0. */
export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;

export const NOTIFY_INVAL_INODE_OUT = layout("fuse_notify_inval_inode_out", 24, [
  ["ino", "u64"],
  ["off", "u64"],
  ["len", "u64"],
]);

/** Followed by the name and a NUL. */
export const NOTIFY_INVAL_ENTRY_OUT = layout("fuse_notify_inval_entry_out", 16, [
  ["parent", "u64"],
  ["namelen", "u32"],
  ["flags", "u32"],
]);

export const STATFS_OUT = layout("fuse_kstatfs", 80, [
  ["blocks", "u64"],
  ["bfree", "u64"],
  ["bavail", "u64"],
  ["files", "u64"],
  ["ffree", "u64"],
  ["bsize", "u32"],
  ["namelen", "u32"],
  ["frsize", "u32"],
  ["padding", "u32"],
  ...Array.from({ length: 6 }, (_, i) => [`spare${i}`, "u32"] as const),
]);

export const DIRENT = layout("fuse_dirent", 24, [
  ["ino", "u64"],
  ["off", "u64"],
  ["namelen", "u32"],
  ["type", "u32"],
]);

/** Directory records start at multiples of this (FUSE_DIRENT_ALIGN). */
export const DIRENT_ALIGN_BYTES = 8;
