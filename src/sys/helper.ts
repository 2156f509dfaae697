/**
 * A program of the system that runs for a moment and may hand over a descriptor. Deno gives its
 * children no descriptors, so it is started by posix_spawn(3).
 *
 *     state      event                        next       what happens
 *     running    it says something            running    the first 4 KiB are kept
 *     running    it sends descriptors         running    the first is kept, others are closed
 *     running    its end of the socket closes ending     its status is asked for
 *     ending     it has exited                over
 *     running,   the time is over             killed     SIGKILL to it and its children
 *      ending
 *     killed     it has exited, or GRACE_MS   over       what is stuck in the kernel is left alone
 *
 * One socket is its standard output, its standard error and where it sends descriptors: so there is
 * one thing to wait for, and one end.
 *
 * Invariants
 *  1. Both ends of the socket are close-on-exec; only posix_spawn's dup2 gives one to the child. A
 *     process that another thread starts at the same moment never has them, so the end is the end.
 *  2. It is in a session of its own: a Ctrl-C for us does not end it half way.
 *  3. Nobody waits for ever.
 */

import { ERRNO, errnoName, FsError } from "../errno.ts";
import { closeFd, O } from "./fd.ts";
import { cString, lastError, libc } from "./libc.ts";

export interface HelperResult {
  /** What its shell would say; null: it was killed, because its time was over. */
  readonly exitCode: number | null;
  /** What it printed. */
  readonly said: string;
  /** Close-on-exec. */
  readonly fd: number | null;
}

export interface HelperOptions {
  /** Absolute. */
  readonly path: string;
  readonly args: readonly string[];
  /** All of its environment but PATH, which is ours. */
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** What the child knows the socket as: it may send a descriptor there. */
export const HELPER_SOCKET = 2;

/** Runs it and waits, also in a thread that has no event loop. Throws FsError: it cannot start. */
export function runHelper(options: HelperOptions): HelperResult {
  const helper = new Helper(options);
  while (!helper.turn()) libc.poll(helper.awaited, 1n, helper.awaitMs);
  return helper.result;
}

/** The same, while this thread's event loop goes on. */
export async function runHelperAside(options: HelperOptions): Promise<HelperResult> {
  const helper = new Helper(options);
  while (!helper.turn()) await libc.pollAside(helper.awaited, 1n, helper.awaitMs);
  return helper.result;
}

/** Where a program is that this process may run, by PATH; null: nowhere. */
export function findProgram(name: string): string | null {
  for (const folder of pathVariable().split(":")) {
    const path = `${folder}/${name}`;
    if (folder.startsWith("/") && libc.access(cString(path), X_OK) === 0) return path;
  }
  return null;
}

const X_OK = 1;

/** By libc: a thread need not have the right to its environment. */
function pathVariable(): string {
  const pointer = libc.getenv(cString("PATH"));
  return pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
}

const SAID_MAX_BYTES = 4096;
const GRACE_MS = 1_000;
/** Between its end of the socket and its own end there is next to nothing. */
const REAP_MS = 2;

const WNOHANG = 1;
const SIGKILL = 9;
const POLLIN = 1;

class Helper {
  readonly #pid: number;
  readonly #until: number;
  /** Ours; -1: closed. */
  #socket: number;
  readonly #said = new Uint8Array(SAID_MAX_BYTES);
  #saidBytes = 0;
  #fd: number | null = null;
  #exitCode: number | null = null;
  #killed = false;
  /** Lives as long as a poll(2) of another thread may. */
  readonly #pollfd = new DataView(new ArrayBuffer(8));

  constructor({ path, args, env = {}, timeoutMs }: HelperOptions) {
    const [ours, theirs] = socketPair();
    this.#socket = ours;
    try {
      this.#pid = spawn(path, args, env, theirs);
    } catch (error) {
      closeFd(ours);
      throw error;
    } finally {
      closeFd(theirs);
    }
    this.#until = performance.now() + timeoutMs;
  }

  /** Takes what has come; whether it is over. If not, it is to be called again after a poll. */
  turn(): boolean {
    if (this.#socket >= 0) this.#receive();
    if (this.#socket < 0 && this.#hasExited()) return true;
    const lateMs = performance.now() - this.#until;
    if (lateMs < 0) return false;
    if (!this.#killed) {
      this.#killed = true;
      libc.kill(-this.#pid, SIGKILL);
      this.#closeSocket();
    }
    return this.#hasExited() || lateMs > GRACE_MS;
  }

  /** For poll(2). */
  get awaited(): Uint8Array<ArrayBuffer> {
    this.#pollfd.setInt32(0, this.#socket, true);
    this.#pollfd.setUint32(4, POLLIN, true);
    return new Uint8Array(this.#pollfd.buffer);
  }

  get awaitMs(): number {
    if (this.#socket < 0) return REAP_MS;
    return Math.max(1, Math.ceil(this.#until - performance.now()));
  }

  get result(): HelperResult {
    const text = new TextDecoder().decode(this.#said.subarray(0, this.#saidBytes));
    // A descriptor needs a byte to carry it, and comes with all that was written before.
    const said = text.replaceAll("\0", "").trim();
    return { exitCode: this.#killed ? null : this.#exitCode, said, fd: this.#fd };
  }

  #receive(): void {
    for (;;) {
      const { bytes, fds } = receive(this.#socket);
      for (const fd of fds) {
        if (this.#fd === null) this.#fd = fd;
        else closeFd(fd);
      }
      if (bytes === "nothing") return;
      if (bytes === "end") return this.#closeSocket();
      const room = bytes.subarray(0, SAID_MAX_BYTES - this.#saidBytes);
      this.#said.set(room, this.#saidBytes);
      this.#saidBytes += room.length;
    }
  }

  #closeSocket(): void {
    if (this.#socket >= 0) closeFd(this.#socket);
    this.#socket = -1;
  }

  #hasExited(): boolean {
    const status = new Int32Array(1);
    if (libc.waitpid(this.#pid, new Uint8Array(status.buffer), WNOHANG) === 0) return false;
    const word = status[0] as number;
    const signal = word & 0x7f;
    this.#exitCode = signal === 0 ? word >> 8 & 0xff : 128 + signal;
    return true;
  }
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;

function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  const type = SOCK_STREAM | O.CLOEXEC;
  if (libc.socketpair(AF_UNIX, type, 0, new Uint8Array(fds.buffer)) !== 0) {
    throw lastError("socketpair");
  }
  return [fds[0] as number, fds[1] as number];
}

/** More than glibc's opaque structs have on any architecture (80 and 336 bytes). */
const FILE_ACTIONS_BYTES = 256;
const ATTRIBUTES_BYTES = 1024;
const POSIX_SPAWN_SETSID = 0x80;

/** Its pid. Throws FsError. */
function spawn(
  path: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  socket: number,
): number {
  const actions = new Uint8Array(FILE_ACTIONS_BYTES);
  const attributes = new Uint8Array(ATTRIBUTES_BYTES);
  const pid = new Int32Array(1);
  const variables = Object.entries({ PATH: pathVariable(), ...env });
  libc.posix_spawn_file_actions_init(actions);
  libc.posix_spawnattr_init(attributes);
  try {
    libc.posix_spawn_file_actions_addopen(actions, 0, cString("/dev/null"), O.RDONLY, 0);
    libc.posix_spawn_file_actions_adddup2(actions, socket, 1);
    libc.posix_spawn_file_actions_adddup2(actions, socket, HELPER_SOCKET);
    libc.posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID);
    const number = libc.posix_spawn(
      new Uint8Array(pid.buffer),
      cString(path),
      actions,
      attributes,
      cStrings([path, ...args]),
      cStrings(variables.map(([name, value]) => `${name}=${value}`)),
    );
    if (number !== 0) throw new FsError(number, `run ${path}: ${errnoName(number)}`);
    return pid[0] as number;
  } finally {
    libc.posix_spawn_file_actions_destroy(actions);
    libc.posix_spawnattr_destroy(attributes);
  }
}

const POINTER_BYTES = 8;

/** `char *[]` with a null at its end, and the strings behind it in the same buffer. */
function cStrings(texts: readonly string[]): Uint8Array<ArrayBuffer> {
  const strings = texts.map(cString);
  const tableBytes = (strings.length + 1) * POINTER_BYTES;
  const sizeBytes = strings.reduce((sum, { length }) => sum + length, tableBytes);
  const bytes = new Uint8Array(new ArrayBuffer(sizeBytes));
  const view = new DataView(bytes.buffer);
  const address = addressOf(bytes);
  let at = tableBytes;
  strings.forEach((string, i) => {
    view.setBigUint64(i * POINTER_BYTES, address + BigInt(at), true);
    bytes.set(string, at);
    at += string.length;
  });
  return bytes;
}

function addressOf(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)) as bigint;
}

/** struct msghdr, struct iovec, ancillary data and data of 64-bit Linux, in one buffer. */
const MESSAGE = { header: 0, iovec: 56, control: 72, data: 200 } as const;
const CONTROL_BYTES = MESSAGE.data - MESSAGE.control;
const DATA_BYTES = 1024;
const message = new Uint8Array(new ArrayBuffer(MESSAGE.data + DATA_BYTES));
const messageView = new DataView(message.buffer);

const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
/** Of struct cmsghdr. */
const CMSG_HEADER_BYTES = 16;

interface Received {
  readonly bytes: Uint8Array<ArrayBuffer> | "nothing" | "end";
  readonly fds: readonly number[];
}

/** What has come, up to the next descriptor and with it (net/unix/af_unix.c). */
function receive(socket: number): Received {
  const address = addressOf(message);
  message.fill(0, 0, MESSAGE.data);
  const u64 = (at: number, value: bigint) => messageView.setBigUint64(at, value, true);
  u64(16, address + BigInt(MESSAGE.iovec));
  u64(24, 1n);
  u64(32, address + BigInt(MESSAGE.control));
  u64(40, BigInt(CONTROL_BYTES));
  u64(MESSAGE.iovec, address + BigInt(MESSAGE.data));
  u64(MESSAGE.iovec + 8, BigInt(DATA_BYTES));
  const count = Number(libc.recvmsg(socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (count < 0) {
    const number = lastError("recvmsg").errno;
    const isOver = number !== ERRNO.EAGAIN && number !== ERRNO.EINTR;
    return { bytes: isOver ? "end" : "nothing", fds: [] };
  }
  if (count === 0) return { bytes: "end", fds: [] };
  return { bytes: message.slice(MESSAGE.data, MESSAGE.data + count), fds: receivedFds() };
}

/** The kernel puts all of a message into one header (net/core/scm.c, scm_detach_fds). */
function receivedFds(): number[] {
  const i32 = (at: number) => messageView.getInt32(MESSAGE.control + at, true);
  if (i32(8) !== SOL_SOCKET || i32(12) !== SCM_RIGHTS) return [];
  const fds: number[] = [];
  for (let at = CMSG_HEADER_BYTES; at < i32(0); at += 4) fds.push(i32(at));
  return fds;
}
