/**
 * Handlers of the opcodes that change something, and of those that make changes durable. umasks
 * and handles in the requests are ignored: the kernel has applied the one, there are none of the
 * other.
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  COPY_FILE_RANGE_IN,
  CREATE_IN,
  FALLOCATE_IN,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FSYNC_IN,
  FUSE_FSYNC_FDATASYNC,
  FUSE_WRITE_KILL_SUIDGID,
  LINK_IN,
  MKDIR_IN,
  MKNOD_IN,
  RENAME2_IN,
  RENAME_IN,
  SETATTR_IN,
  WRITE_IN,
} from "./abi.ts";
import { Malformed, type RequestReader } from "./decode.ts";
import { type AttrChanges, type Entry, RENAME } from "./filesystem.ts";
import type { Handled, OpContext } from "./op.ts";

/** PATH_MAX without its NUL: what readlink(2) can give back (fuse_readlink_page). */
const SYMLINK_MAX_BYTES = 4095;
/** fuse_write_out has 32 bits; whole pages, as the kernel itself cuts it. */
const COPY_MAX_BYTES = 0xfffff000;

const FATTR_CHANGES = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME |
  FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW;

type Writable<T> = { -readonly [Field in keyof T]: T[Field] };

function changesOf(request: RequestReader): AttrChanges {
  const at = request.struct(SETATTR_IN);
  const field = SETATTR_IN.at;
  const valid = request.u32(at + field.valid);
  // Without any change it is file_remove_privs of fallocate and copy_file_range, or a chown to
  // nobody else: fuse_setattr leaves all of the killing to us and has nothing else to say.
  const kill = (valid & FATTR_KILL_SUIDGID) !== 0 || (valid & FATTR_CHANGES) === 0;
  const changes: Writable<AttrChanges> = { killSuidGidFor: kill ? request.gid : null };
  if (valid & FATTR_MODE) changes.mode = request.u32(at + field.mode);
  if (valid & FATTR_UID) changes.uid = request.u32(at + field.uid);
  if (valid & FATTR_GID) changes.gid = request.u32(at + field.gid);
  if (valid & FATTR_SIZE) changes.sizeBytes = request.offset(at + field.size);
  if (valid & FATTR_ATIME_NOW) changes.atime = "now";
  else if (valid & FATTR_ATIME) {
    changes.atime = request.time(at + field.atime, at + field.atimensec);
  }
  if (valid & FATTR_MTIME_NOW) changes.mtime = "now";
  else if (valid & FATTR_MTIME) {
    changes.mtime = request.time(at + field.mtime, at + field.mtimensec);
  }
  return changes;
}

export function setattr({ filesystem, request, reply }: OpContext): Handled {
  return reply.attributes(request, filesystem.setattr(request.nodeid, changesOf(request)));
}

function created({ request, reply, counted }: OpContext, entry: Entry): Handled {
  counted.push(entry.nodeid);
  return reply.entry(request, entry);
}

export function mknod(context: OpContext): Handled {
  const { filesystem, request } = context;
  const at = request.struct(MKNOD_IN);
  const mode = request.u32(at + MKNOD_IN.at.mode);
  const rdev = request.u32(at + MKNOD_IN.at.rdev);
  const { nodeid, caller } = request;
  return created(context, filesystem.mknod(nodeid, request.name(), mode, rdev, caller));
}

export function mkdir(context: OpContext): Handled {
  const { filesystem, request } = context;
  const at = request.struct(MKDIR_IN);
  const mode = request.u32(at + MKDIR_IN.at.mode);
  return created(
    context,
    filesystem.mkdir(request.nodeid, request.name(), mode, request.caller),
  );
}

export function symlink(context: OpContext): Handled {
  const { filesystem, request } = context;
  const name = request.name();
  const target = request.stringBytes();
  if (target.length === 0) throw new Malformed("a symbolic link to nothing");
  if (target.length > SYMLINK_MAX_BYTES) throw new FsError(ERRNO.ENAMETOOLONG);
  return created(
    context,
    filesystem.symlink(request.nodeid, name, target.slice(), request.caller),
  );
}

export function link(context: OpContext): Handled {
  const { filesystem, request } = context;
  const at = request.struct(LINK_IN);
  const nodeid = request.u64(at + LINK_IN.at.oldnodeid);
  return created(context, filesystem.link(nodeid, request.nodeid, request.name()));
}

/** Its name in the message is `/`. */
export function tmpfile({ filesystem, request, reply, counted }: OpContext): Handled {
  const at = request.struct(CREATE_IN);
  const mode = request.u32(at + CREATE_IN.at.mode);
  const entry = filesystem.tmpfile(request.nodeid, mode, request.caller);
  counted.push(entry.nodeid);
  return reply.entryOpened(request, entry);
}

export function unlink({ filesystem, request, reply }: OpContext): Handled {
  filesystem.unlink(request.nodeid, request.name());
  return reply.empty(request);
}

export function rmdir({ filesystem, request, reply }: OpContext): Handled {
  filesystem.rmdir(request.nodeid, request.name());
  return reply.empty(request);
}

function renamed(context: OpContext, newParentNodeid: number, flags: number): Handled {
  const { filesystem, request, reply } = context;
  const name = request.name();
  const newName = request.name();
  filesystem.rename(request.nodeid, name, newParentNodeid, newName, flags);
  return reply.empty(request);
}

export function rename(context: OpContext): Handled {
  const at = context.request.struct(RENAME_IN);
  return renamed(context, context.request.u64(at + RENAME_IN.at.newdir), 0);
}

/** The kernel lets RENAME_WHITEOUT through, for which there is no place here. */
export function rename2(context: OpContext): Handled {
  const { request } = context;
  const at = request.struct(RENAME2_IN);
  const newParentNodeid = request.u64(at + RENAME2_IN.at.newdir);
  const flags = request.u32(at + RENAME2_IN.at.flags);
  if (flags !== 0 && flags !== RENAME.NOREPLACE && flags !== RENAME.EXCHANGE) {
    throw new FsError(ERRNO.EINVAL);
  }
  return renamed(context, newParentNodeid, flags);
}

/** The end of a range stays a number that is exact. */
function checkRange(offset: number, lengthBytes: number): void {
  if (offset + lengthBytes > Number.MAX_SAFE_INTEGER) throw new FsError(ERRNO.EFBIG);
}

export function write({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(WRITE_IN);
  const bytes = request.bytes(request.u32(at + WRITE_IN.at.size));
  const offset = request.offset(at + WRITE_IN.at.offset);
  checkRange(offset, bytes.length);
  const kill = (request.u32(at + WRITE_IN.at.write_flags) & FUSE_WRITE_KILL_SUIDGID) !== 0;
  const killSuidGidFor = kill ? request.gid : null;
  const count = filesystem.write(request.nodeid, offset, bytes, killSuidGidFor);
  return reply.written(request, count);
}

export function fallocate({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(FALLOCATE_IN);
  const offset = request.offset(at + FALLOCATE_IN.at.offset);
  const lengthBytes = request.offset(at + FALLOCATE_IN.at.length);
  checkRange(offset, lengthBytes);
  const mode = request.u32(at + FALLOCATE_IN.at.mode);
  filesystem.fallocate(request.nodeid, mode, offset, lengthBytes);
  return reply.empty(request);
}

/** How much was copied, of `maxBytes` at most. */
function copy({ filesystem, request }: OpContext, maxBytes: number): number {
  const at = request.struct(COPY_FILE_RANGE_IN);
  const field = COPY_FILE_RANGE_IN.at;
  if (request.bits64(at + field.flags) !== 0n) throw new FsError(ERRNO.EINVAL);
  const offset = request.offset(at + field.off_in);
  const newNodeid = request.u64(at + field.nodeid_out);
  const newOffset = request.offset(at + field.off_out);
  const lengthBytes = Math.min(request.offset(at + field.len), maxBytes);
  checkRange(offset, lengthBytes);
  checkRange(newOffset, lengthBytes);
  return filesystem.copyFileRange(request.nodeid, offset, newNodeid, newOffset, lengthBytes);
}

export function copyFileRange(context: OpContext): Handled {
  return context.reply.written(context.request, copy(context, COPY_MAX_BYTES));
}

export function copyFileRange64(context: OpContext): Handled {
  return context.reply.copied(context.request, copy(context, Number.MAX_SAFE_INTEGER));
}

function isDataOnly(request: RequestReader): boolean {
  const at = request.struct(FSYNC_IN);
  return (request.u32(at + FSYNC_IN.at.fsync_flags) & FUSE_FSYNC_FDATASYNC) !== 0;
}

export function fsync({ filesystem, request, reply }: OpContext): Handled {
  filesystem.fsync(request.nodeid, isDataOnly(request));
  return reply.empty(request);
}

export function fsyncdir({ filesystem, request, reply }: OpContext): Handled {
  filesystem.fsyncdir(request.nodeid, isDataOnly(request));
  return reply.empty(request);
}
