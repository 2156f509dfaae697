/**
 * One mount's conversation with the kernel: a synchronous loop that reads a request, has it
 * answered, and writes the reply.
 *
 *   state      event                       next       function
 *   starting   INIT, minor 7.31 or newer   running    #init
 *   starting   INIT, major above 7         starting   #init (the kernel asks again with 7)
 *   starting   anything else               ended      #dispatch
 *   running    a request                   running    #dispatch
 *   running    DESTROY, ENODEV             ended      run
 *   running    ECONNABORTED                ended      run
 *   running    finish, nothing asked       ended      run
 *
 * Invariants
 *  1. Exactly one reply per request; none for FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY.
 *  2. A parked request is answered once: by wake, interrupt, or its deadline.
 *  3. A lookup count rises only for replies the kernel took.
 *  4. A malformed request gets EIO and the session lives. A Bug ends the session.
 */

import { ERRNO, errnoName, FsError } from "../errno.ts";
import { Bug } from "../failure.ts";
import {
  FUSE_KERNEL_VERSION,
  FUSE_MINOR_MAX,
  FUSE_MINOR_MIN,
  INIT_IN,
  INIT_IN_MIN_BYTES,
  OPCODE,
} from "./abi.ts";
import { FuseCounters } from "./counters.ts";
import type { Name } from "../path.ts";
import { Malformed, RequestReader } from "./decode.ts";
import { ReplyWriter } from "./encode.ts";
import { type Filesystem, Parked } from "./filesystem.ts";
import { negotiateFlags } from "./init_flags.ts";
import { barrier, invalAttributes, invalInode } from "./notify.ts";
import type { Handled, OpContext } from "./op.ts";
import { OPS, UNANSWERED } from "./ops.ts";

/** Where requests come from: /dev/fuse, or a test. */
export interface Device {
  /** Length of one request, or minus errno; EAGAIN when there is none. */
  read(into: Uint8Array<ArrayBuffer>): number;
  /** Length written, or minus errno; ENOENT: nobody waits for this reply any more. */
  write(reply: Uint8Array<ArrayBuffer>): number;
  /**
   * Sleeps until there is a request, a command for us, or the time is over. -1: no limit. Returns
   * whether there are commands.
   */
  wait(timeoutMs: number): boolean;
}

export interface SessionLog {
  /** Something went wrong with one request that is not the caller's fault. */
  warn(message: string, fields: Record<string, unknown>): void;
}

export interface SessionOptions {
  readonly device: Device;
  readonly filesystem: Filesystem;
  readonly log: SessionLog;
  /** Called between bursts: take commands, call `wake`. */
  readonly drain: () => void;
  /** What waits for `key` got no answer in time: it is to be asked for again. */
  readonly onExpired?: (key: string) => void;
  /** The kernel has our INIT reply. `protocol` is `7.<minor>` as negotiated. */
  readonly onReady: (protocol: string) => void;
  /** Somebody waits for the kernel, which may wait for a reply: `finish` goes on with them. */
  readonly isAwaited?: () => boolean;
  readonly counters?: FuseCounters;
  readonly now?: () => number;
}

export type SessionEnd = "unmounted" | "stopped" | "aborted" | "refused" | "failed";

/** What one READ, READDIR or WRITE carries: 256 pages, the kernel's own limit too. */
const MAX_DATA_BYTES = 1024 * 1024;
const PAGE_BYTES = 4096;
/** With the default of 12, a dozen parked cold reads stop the reads of local files. */
const MAX_BACKGROUND = 65535;
/** Requests answered before commands get a turn. */
const BURST = 64;
/** A parked request ends with EIO when nothing has happened to it for so long. */
export const PARKED_TIMEOUT_MS = 60_000;
const DEADLINE_CHECK_MS = 1000;
const FINISH_MS = 2000;
const FINISH_CHECK_MS = 20;

interface ParkedRequest {
  readonly key: string;
  readonly unique: bigint;
  readonly request: RequestReader;
  deadline: number;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #now: () => number;
  readonly #counters: FuseCounters;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #request: RequestReader;
  readonly #reply = new ReplyWriter(MAX_DATA_BYTES);
  readonly #parked = new Map<bigint, ParkedRequest>();
  readonly #waiting = new Map<string, Set<ParkedRequest>>();
  readonly #unknownOpcodes = new Set<number>();
  readonly #context: OpContext & { request: RequestReader; filesystem: Filesystem };
  #state: "starting" | "running" | "ended" = "starting";
  #end: SessionEnd = "unmounted";
  #protocolMinor = 0;
  #nextDeadlineCheck = 0;
  /** `finish` was called: until when somebody may go on asking. */
  #finishUntil: number | null = null;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#counters = options.counters ?? new FuseCounters();
    // The kernel wants room for the largest WRITE with its headers (fuse_dev_do_read).
    this.#buffer = new Uint8Array(MAX_DATA_BYTES + PAGE_BYTES);
    this.#request = new RequestReader(this.#buffer);
    this.#context = {
      filesystem: options.filesystem,
      request: this.#request,
      reply: this.#reply,
      counted: [],
      interrupt: (unique) => this.#interrupt(unique),
      end: () => this.stop("unmounted"),
    };
  }

  get #ended(): boolean {
    return this.#state === "ended";
  }

  get #isWriteParked(): boolean {
    return this.#parked.values().some(({ request }) => request.opcode === OPCODE.FUSE_WRITE);
  }

  /** All that was asked is answered. */
  #mayFinish(): boolean {
    if (this.#finishUntil === null || this.#isWriteParked) return false;
    if (this.#options.isAwaited?.() !== true) return true;
    // Who waits in a directory has locked it.
    for (const parked of [...this.#parked.values()]) this.#giveUp(parked, ERRNO.EIO);
    return false;
  }

  get #waitMs(): number {
    if (this.#finishUntil !== null) return FINISH_CHECK_MS;
    return this.#parked.size > 0 ? DEADLINE_CHECK_MS : -1;
  }

  /** Requests that wait for somebody. */
  get parkedCount(): number {
    return this.#parked.size;
  }

  /**
   * The loop ends when all that the kernel has asked so far is answered, but for readers that wait:
   * pages of shared mappings are among it, for which syncfs(2) of a FUSE mount does not wait.
   */
  finish(end: SessionEnd): void {
    this.#finishUntil ??= this.#now() + FINISH_MS;
    this.#end = end;
  }

  /** The loop ends after the request at hand. */
  stop(end: SessionEnd): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#end = end;
  }

  /** Answers until the mount is gone. Throws Bug. */
  run(): SessionEnd {
    const { device, drain } = this.#options;
    while (!this.#ended) {
      let idle = false;
      for (let i = 0; i < BURST && !this.#ended; i++) {
        const length = device.read(this.#buffer);
        if (length === -ERRNO.EAGAIN) {
          idle = true;
          if (this.#mayFinish()) this.stop(this.#end);
          break;
        }
        // ENOENT: the request was interrupted before we read it (fuse_dev_do_read).
        if (length === -ERRNO.EINTR || length === -ERRNO.ENOENT) continue;
        if (length < 0) {
          this.stop(length === -ERRNO.ENODEV ? "unmounted" : "aborted");
          break;
        }
        this.#receive(length);
      }
      if (!idle || this.#ended || device.wait(this.#waitMs)) drain();
      this.#expire();
      if (this.#finishUntil !== null && this.#now() > this.#finishUntil) this.stop(this.#end);
    }
    return this.#end;
  }

  /** Another file system answers from now on; what waits is to be woken. */
  serve(filesystem: Filesystem): void {
    this.#context.filesystem = filesystem;
  }

  /** Tries again what waits for `key`. */
  wake(key: string): void {
    const waiters = this.#waiting.get(key);
    if (waiters === undefined) return;
    this.#waiting.delete(key);
    for (const parked of waiters) {
      this.#parked.delete(parked.unique);
      this.#dispatch(parked.request);
    }
  }

  /** Something moves: nobody's deadline is near. */
  postponeDeadlines(): void {
    const deadline = this.#now() + PARKED_TIMEOUT_MS;
    for (const parked of this.#parked.values()) {
      parked.deadline = Math.max(parked.deadline, deadline);
    }
  }

  /**
   * The kernel forgets a directory's listing. It waits for no request of ours: pages of a listing
   * are locked only while they are filled (fuse_add_dirent_to_cache in fs/fuse/readdir.c). Of a file
   * it may wait, so nothing here may say it of one.
   */
  invalidateListing(nodeid: number): void {
    // ENOENT: it has forgotten the directory itself.
    this.#options.device.write(invalInode(nodeid));
  }

  /** The kernel asks for a file's attributes when it needs them next. It waits for nobody. */
  invalidateAttributes(nodeid: number): void {
    // ENOENT: it has forgotten the file.
    this.#options.device.write(invalAttributes(nodeid));
  }

  /** For another thread to write: it waits for whoever changes names in that directory. */
  barrier(parentNodeid: number, name: Name): Uint8Array<ArrayBuffer> {
    return barrier(parentNodeid, name, this.#protocolMinor);
  }

  #receive(length: number): void {
    const request = this.#request;
    if (!request.start(length)) {
      // Not even the header can be trusted, so there is nobody to reply to.
      this.#options.log.warn("Request with a broken header", { lengthBytes: length });
      return;
    }
    this.#counters.request(request.opcode, !UNANSWERED.has(request.opcode));
    this.#dispatch(request);
  }

  #dispatch(request: RequestReader): void {
    const context = this.#context;
    context.request = request;
    context.counted.length = 0;
    let length: number | null;
    try {
      length = this.#handle(context);
    } catch (error) {
      this.#uncount();
      if (error instanceof Parked) {
        this.#park(error, request);
        return;
      }
      const errno = this.#toErrno(error, request);
      if (UNANSWERED.has(request.opcode)) return;
      this.#counters.error(errno);
      length = this.#reply.error(request, errno);
    }
    if (length === null) return;
    const written = this.#options.device.write(this.#reply.bytes.subarray(0, length));
    if (written < 0) this.#uncount();
  }

  /** What was counted is in no reply that the kernel took. */
  #uncount(): void {
    const { counted } = this.#context;
    for (const nodeid of counted) this.#context.filesystem.forget(nodeid, 1);
    counted.length = 0;
  }

  #handle(context: OpContext): Handled {
    const opcode = context.request.opcode;
    if (this.#state === "starting") {
      if (opcode === OPCODE.FUSE_INIT) return this.#init(context.request);
      this.stop("refused");
      throw new FsError(ERRNO.EPROTO, "a request before INIT");
    }
    const op = OPS.get(opcode);
    if (op !== undefined) return op.handle(context);
    if (!this.#unknownOpcodes.has(opcode)) {
      this.#unknownOpcodes.add(opcode);
      this.#options.log.warn("Unknown opcode", { opcode });
    }
    return this.#reply.error(context.request, ERRNO.ENOSYS);
  }

  #init(request: RequestReader): number {
    const at = request.struct(INIT_IN, INIT_IN_MIN_BYTES);
    const major = request.u32(at + INIT_IN.at.major);
    const minor = request.u32(at + INIT_IN.at.minor);
    const offered = {
      flags: request.u32(at + INIT_IN.at.flags),
      flags2: request.u32(at + INIT_IN.at.flags2),
    };
    const reply = {
      minor: Math.min(minor, FUSE_MINOR_MAX),
      maxReadaheadBytes: request.u32(at + INIT_IN.at.max_readahead),
      ...negotiateFlags(offered),
      maxBackground: MAX_BACKGROUND,
      congestionThreshold: MAX_BACKGROUND,
      maxWriteBytes: MAX_DATA_BYTES,
      maxPages: MAX_DATA_BYTES / PAGE_BYTES,
    };
    if (major > FUSE_KERNEL_VERSION) {
      return this.#reply.init(request, FUSE_KERNEL_VERSION, { ...reply, minor: FUSE_MINOR_MAX });
    }
    if (major < FUSE_KERNEL_VERSION || minor < FUSE_MINOR_MIN) {
      this.stop("refused");
      throw new FsError(ERRNO.EPROTO, `the kernel speaks FUSE ${major}.${minor}`);
    }
    this.#state = "running";
    this.#protocolMinor = reply.minor;
    // The reply is written right after this returns, before anything else can happen.
    this.#options.onReady(`${FUSE_KERNEL_VERSION}.${reply.minor}`);
    return this.#reply.init(request, FUSE_KERNEL_VERSION, reply);
  }

  #park({ key, patient }: Parked, request: RequestReader): void {
    const message = request.message.slice();
    const own = new RequestReader(message);
    own.start(message.length);
    const deadline = patient ? Infinity : this.#now() + PARKED_TIMEOUT_MS;
    const parked = { key, unique: own.unique, request: own, deadline };
    this.#parked.set(parked.unique, parked);
    const waiters = this.#waiting.get(key);
    if (waiters === undefined) this.#waiting.set(key, new Set([parked]));
    else waiters.add(parked);
  }

  #interrupt(unique: bigint): void {
    const parked = this.#parked.get(unique);
    // Answered already, or not parked and so answered before this was read.
    if (parked !== undefined) this.#giveUp(parked, ERRNO.EINTR);
  }

  #giveUp(parked: ParkedRequest, errno: number): void {
    this.#parked.delete(parked.unique);
    const waiters = this.#waiting.get(parked.key);
    waiters?.delete(parked);
    if (waiters?.size === 0) this.#waiting.delete(parked.key);
    this.#counters.error(errno);
    const length = this.#reply.error(parked.request, errno);
    this.#options.device.write(this.#reply.bytes.subarray(0, length));
  }

  #expire(): void {
    if (this.#parked.size === 0) return;
    const now = this.#now();
    if (now < this.#nextDeadlineCheck) return;
    this.#nextDeadlineCheck = now + DEADLINE_CHECK_MS;
    for (const parked of [...this.#parked.values()]) {
      if (parked.deadline > now) continue;
      this.#options.log.warn("Request gave up waiting", { waitedFor: parked.key });
      this.#giveUp(parked, ERRNO.EIO);
      this.#options.onExpired?.(parked.key);
    }
  }

  #toErrno(error: unknown, request: RequestReader): number {
    // ENOSYS is for rows to answer: from further below it would be the kernel's answer for good.
    if (error instanceof FsError && error.errno !== ERRNO.ENOSYS) return error.errno;
    if (error instanceof Bug) throw error;
    const opcode = request.opcode;
    this.#options.log.warn("Request failed", {
      op: OPS.get(opcode)?.name ?? opcode,
      malformed: error instanceof Malformed,
      error: error instanceof Error ? error.message : String(error),
      errno: errnoName(ERRNO.EIO),
    });
    return ERRNO.EIO;
  }
}
