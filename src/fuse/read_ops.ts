/** Handlers of the opcodes that change nothing. */

import { ERRNO, FsError } from "../errno.ts";
import { BATCH_FORGET_IN, FORGET_IN, FORGET_ONE, INTERRUPT_IN, LSEEK_IN, READ_IN } from "./abi.ts";
import { Malformed } from "./decode.ts";
import type { DirentSink } from "./filesystem.ts";
import type { Handled, OpContext } from "./op.ts";

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export function lookup({ filesystem, request, reply, counted }: OpContext): Handled {
  const entry = filesystem.lookup(request.nodeid, request.name());
  if (entry.nodeid !== 0) counted.push(entry.nodeid);
  return reply.entry(request, entry);
}

export function forget({ filesystem, request }: OpContext): Handled {
  const at = request.struct(FORGET_IN);
  filesystem.forget(request.nodeid, request.u64(at + FORGET_IN.at.nlookup));
  return null;
}

export function batchForget({ filesystem, request }: OpContext): Handled {
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

export function getattr({ filesystem, request, reply }: OpContext): Handled {
  return reply.attributes(request, filesystem.getattr(request.nodeid));
}

export function readlink({ filesystem, request, reply }: OpContext): Handled {
  return reply.bytesReply(request, filesystem.readlink(request.nodeid));
}

export function read({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(READ_IN);
  const offset = request.u64(at + READ_IN.at.offset);
  const size = Math.min(request.u32(at + READ_IN.at.size), reply.maxBodyBytes);
  const count = filesystem.read(request.nodeid, offset, reply.body(size));
  return reply.filled(request, count);
}

export function readdir({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(READ_IN);
  const sink = reply.dirents(request.u32(at + READ_IN.at.size));
  filesystem.readdir(request.nodeid, request.u64(at + READ_IN.at.offset), sink);
  return reply.filled(request, sink.lengthBytes);
}

export function readdirplus({ filesystem, request, reply, counted }: OpContext): Handled {
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
  filesystem.readdirplus(request.nodeid, offset, counting);
  return reply.filled(request, sink.lengthBytes);
}

export function statfs({ filesystem, request, reply }: OpContext): Handled {
  return reply.statfs(request, filesystem.statfs());
}

/** The kernel does the other kinds of lseek(2) by itself (fuse_file_llseek in fs/fuse/file.c). */
export function lseek({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(LSEEK_IN);
  const whence = request.u32(at + LSEEK_IN.at.whence);
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError(ERRNO.EINVAL);
  // The caller's number as it is, negative ones too: no file has anything there.
  const offset = request.bits64(at + LSEEK_IN.at.offset);
  if (offset > Number.MAX_SAFE_INTEGER) throw new FsError(ERRNO.ENXIO);
  return reply.offset(request, filesystem.lseek(request.nodeid, Number(offset), whence));
}

export function interrupt({ request, interrupt }: OpContext): Handled {
  const at = request.struct(INTERRUPT_IN);
  interrupt(request.bits64(at + INTERRUPT_IN.at.unique));
  return null;
}

export function destroy({ request, reply, end }: OpContext): Handled {
  end();
  return reply.empty(request);
}
