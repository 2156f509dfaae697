/**
 * One row per opcode: its name, what it does, and whether it may ever answer ENOSYS. The kernel
 * remembers ENOSYS for the life of the mount, and for FSYNC and FSYNCDIR takes it as success.
 *
 * The mount is read-only (MS_RDONLY), so the kernel itself refuses changes with EROFS; should one
 * come through (`mount -o remount,rw`), the answer is the same.
 */

import { ERRNO, FsError } from "../errno.ts";
import { BATCH_FORGET_IN, FORGET_IN, FORGET_ONE, INTERRUPT_IN, OPCODE, READ_IN } from "./abi.ts";
import { Malformed, type RequestReader } from "./decode.ts";
import type { ReplyWriter } from "./encode.ts";
import { type DirentSink, type Filesystem, Parked } from "./filesystem.ts";

/** What a row works with. */
export interface OpContext {
  readonly filesystem: Filesystem;
  readonly request: RequestReader;
  readonly reply: ReplyWriter;
  /** Nodes whose lookup count this reply raises: lowered again if the kernel does not take it. */
  readonly counted: number[];
  /** Answers EINTR to a parked request. */
  interrupt(unique: bigint): void;
  /** The session ends after this reply. */
  end(): void;
}

/** Length of the reply message; null: this opcode has none. */
type Handled = number | Parked | null;

export interface Op {
  readonly name: string;
  readonly mayAnswerEnosys: boolean;
  handle(context: OpContext): Handled;
}

function op(name: string, handle: (context: OpContext) => Handled): Op {
  return { name, mayAnswerEnosys: false, handle };
}

/** The kernel does it by itself from now on, or never asks again. */
function unneeded(name: string): Op {
  return {
    name,
    mayAnswerEnosys: true,
    handle: ({ request, reply }) => reply.error(request, ERRNO.ENOSYS),
  };
}

function readOnly(name: string): Op {
  return op(name, () => {
    throw new FsError(ERRNO.EROFS);
  });
}

/** Nothing is ever dirty on a read-only mount. */
function nothingToDo(name: string): Op {
  return op(name, ({ request, reply }) => reply.empty(request));
}

function lookup({ filesystem, request, reply, counted }: OpContext): Handled {
  const entry = filesystem.lookup(request.nodeid, request.string());
  if (entry instanceof Parked) return entry;
  if (entry.nodeid !== 0) counted.push(entry.nodeid);
  return reply.entry(request, entry);
}

function forget({ filesystem, request }: OpContext): Handled {
  const at = request.struct(FORGET_IN);
  filesystem.forget(request.nodeid, request.u64(at + FORGET_IN.at.nlookup));
  return null;
}

function batchForget({ filesystem, request }: OpContext): Handled {
  const at = request.struct(BATCH_FORGET_IN);
  const count = request.u32(at + BATCH_FORGET_IN.at.count);
  if (request.remainingBytes < count * FORGET_ONE.sizeBytes) {
    throw new Malformed("fewer forgets than counted");
  }
  for (let i = 0; i < count; i++) {
    const one = request.struct(FORGET_ONE);
    filesystem.forget(
      request.u64(one + FORGET_ONE.at.nodeid),
      request.u64(one + FORGET_ONE.at.nlookup),
    );
  }
  return null;
}

function getattr({ filesystem, request, reply }: OpContext): Handled {
  const attributes = filesystem.getattr(request.nodeid);
  return attributes instanceof Parked ? attributes : reply.attributes(request, attributes);
}

function readlink({ filesystem, request, reply }: OpContext): Handled {
  const target = filesystem.readlink(request.nodeid);
  return target instanceof Parked ? target : reply.bytesReply(request, target);
}

function read({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(READ_IN);
  const offset = request.u64(at + READ_IN.at.offset);
  const size = Math.min(request.u32(at + READ_IN.at.size), reply.maxBodyBytes);
  const count = filesystem.read(request.nodeid, offset, reply.body(size));
  return count instanceof Parked ? count : reply.filled(request, count);
}

function readdir({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(READ_IN);
  const sink = reply.dirents(request.u32(at + READ_IN.at.size));
  const parked = filesystem.readdir(request.nodeid, request.u64(at + READ_IN.at.offset), sink);
  return parked ?? reply.filled(request, sink.lengthBytes);
}

function readdirplus({ filesystem, request, reply, counted }: OpContext): Handled {
  const at = request.struct(READ_IN);
  const sink = reply.dirents(request.u32(at + READ_IN.at.size));
  const counting: DirentSink = {
    fits: (name) => sink.fits(name),
    add: (name, ino, type, off) => sink.add(name, ino, type, off),
    addPlus(name, ino, type, off, entry) {
      const added = sink.addPlus(name, ino, type, off, entry);
      if (added && entry !== null) counted.push(entry.nodeid);
      return added;
    },
  };
  const offset = request.u64(at + READ_IN.at.offset);
  const parked = filesystem.readdirplus(request.nodeid, offset, counting);
  return parked ?? reply.filled(request, sink.lengthBytes);
}

function interrupt({ request, interrupt }: OpContext): Handled {
  const at = request.struct(INTERRUPT_IN);
  interrupt(request.bits64(at + INTERRUPT_IN.at.unique));
  return null;
}

function destroy({ request, reply, end }: OpContext): Handled {
  end();
  return reply.empty(request);
}

/** The kernel waits for no reply to these, not even to one that is malformed (fs/fuse/dev.c). */
export const UNANSWERED: ReadonlySet<number> = new Set([
  OPCODE.FUSE_FORGET,
  OPCODE.FUSE_BATCH_FORGET,
  OPCODE.FUSE_INTERRUPT,
  OPCODE.FUSE_NOTIFY_REPLY,
]);

/** Every opcode but INIT, which the session answers. */
export const OPS: ReadonlyMap<number, Op> = new Map<number, Op>([
  [OPCODE.FUSE_LOOKUP, op("LOOKUP", lookup)],
  [OPCODE.FUSE_FORGET, op("FORGET", forget)],
  [OPCODE.FUSE_BATCH_FORGET, op("BATCH_FORGET", batchForget)],
  [OPCODE.FUSE_GETATTR, op("GETATTR", getattr)],
  [OPCODE.FUSE_READLINK, op("READLINK", readlink)],
  [OPCODE.FUSE_READ, op("READ", read)],
  [OPCODE.FUSE_READDIR, op("READDIR", readdir)],
  [OPCODE.FUSE_READDIRPLUS, op("READDIRPLUS", readdirplus)],
  [
    OPCODE.FUSE_STATFS,
    op("STATFS", ({ filesystem, request, reply }) => reply.statfs(request, filesystem.statfs())),
  ],
  [OPCODE.FUSE_INTERRUPT, op("INTERRUPT", interrupt)],
  [OPCODE.FUSE_DESTROY, op("DESTROY", destroy)],
  [OPCODE.FUSE_NOTIFY_REPLY, op("NOTIFY_REPLY", () => null)],
  [OPCODE.FUSE_OPEN, unneeded("OPEN")],
  [OPCODE.FUSE_OPENDIR, unneeded("OPENDIR")],
  [OPCODE.FUSE_FLUSH, unneeded("FLUSH")],
  [OPCODE.FUSE_ACCESS, unneeded("ACCESS")],
  [OPCODE.FUSE_STATX, unneeded("STATX")],
  [OPCODE.FUSE_GETXATTR, unneeded("GETXATTR")],
  [OPCODE.FUSE_LISTXATTR, unneeded("LISTXATTR")],
  [OPCODE.FUSE_LSEEK, unneeded("LSEEK")],
  [OPCODE.FUSE_BMAP, unneeded("BMAP")],
  [OPCODE.FUSE_IOCTL, unneeded("IOCTL")],
  [OPCODE.FUSE_POLL, unneeded("POLL")],
  [OPCODE.FUSE_GETLK, unneeded("GETLK")],
  [OPCODE.FUSE_SETLK, unneeded("SETLK")],
  [OPCODE.FUSE_SETLKW, unneeded("SETLKW")],
  [OPCODE.FUSE_COPY_FILE_RANGE, unneeded("COPY_FILE_RANGE")],
  [OPCODE.FUSE_COPY_FILE_RANGE_64, unneeded("COPY_FILE_RANGE_64")],
  [OPCODE.FUSE_SYNCFS, unneeded("SYNCFS")],
  [OPCODE.FUSE_RELEASE, nothingToDo("RELEASE")],
  [OPCODE.FUSE_RELEASEDIR, nothingToDo("RELEASEDIR")],
  [OPCODE.FUSE_FSYNC, nothingToDo("FSYNC")],
  [OPCODE.FUSE_FSYNCDIR, nothingToDo("FSYNCDIR")],
  [OPCODE.FUSE_SETATTR, readOnly("SETATTR")],
  [OPCODE.FUSE_SYMLINK, readOnly("SYMLINK")],
  [OPCODE.FUSE_MKNOD, readOnly("MKNOD")],
  [OPCODE.FUSE_MKDIR, readOnly("MKDIR")],
  [OPCODE.FUSE_UNLINK, readOnly("UNLINK")],
  [OPCODE.FUSE_RMDIR, readOnly("RMDIR")],
  [OPCODE.FUSE_RENAME, readOnly("RENAME")],
  [OPCODE.FUSE_RENAME2, readOnly("RENAME2")],
  [OPCODE.FUSE_LINK, readOnly("LINK")],
  [OPCODE.FUSE_WRITE, readOnly("WRITE")],
  [OPCODE.FUSE_SETXATTR, readOnly("SETXATTR")],
  [OPCODE.FUSE_REMOVEXATTR, readOnly("REMOVEXATTR")],
  [OPCODE.FUSE_CREATE, readOnly("CREATE")],
  [OPCODE.FUSE_FALLOCATE, readOnly("FALLOCATE")],
  [OPCODE.FUSE_TMPFILE, readOnly("TMPFILE")],
]);
