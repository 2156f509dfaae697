/**
 * What a session counts: cells that the thread of the session writes and other threads read, at any
 * time and without a lock or a message. A count is one addition to a number that is at hand.
 */

import { errnoName } from "../errno.ts";
import { OPCODE } from "./abi.ts";

/** Above all opcodes; others are counted as 0, which is none. */
const OPCODES = 64;
/** Above all numbers of errors. */
const ERRNOS = 136;
const AWAITED = 0;
const BY_OPCODE = 1;
const BY_ERRNO = BY_OPCODE + OPCODES;
const CELLS = BY_ERRNO + ERRNOS;

export class FuseCounters {
  readonly #cells: Float64Array<SharedArrayBuffer>;

  constructor(
    readonly buffer: SharedArrayBuffer = new SharedArrayBuffer(CELLS * 8),
  ) {
    this.#cells = new Float64Array(buffer);
  }

  /** A request was read. */
  request(opcode: number, isAwaited: boolean): void {
    if (isAwaited) this.#add(AWAITED);
    this.#add(BY_OPCODE + (opcode < OPCODES ? opcode : 0));
  }

  /** A request was answered with an error. */
  error(errno: number): void {
    this.#add(BY_ERRNO + (errno < ERRNOS ? errno : 0));
  }

  #add(cell: number): void {
    this.#cells[cell] = (this.#cells[cell] as number) + 1;
  }

  /** Requests that want a reply, INIT included. */
  get awaited(): number {
    return this.#cells[AWAITED] as number;
  }

  /** Requests by opcode: `LOOKUP`. */
  byOp(): Map<string, number> {
    return this.#counts(BY_OPCODE, OPCODES, opName);
  }

  /** Answers that were errors: `ENOENT`. */
  byErrno(): Map<string, number> {
    return this.#counts(BY_ERRNO, ERRNOS, errnoName);
  }

  #counts(from: number, length: number, nameOf: (index: number) => string): Map<string, number> {
    const counts = new Map<string, number>();
    for (let index = 0; index < length; index++) {
      const count = this.#cells[from + index] as number;
      if (count > 0) counts.set(nameOf(index), count);
    }
    return counts;
  }
}

const OP_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(OPCODE).map(([name, opcode]) => [opcode, name.replace(/^FUSE_/, "")]),
);

function opName(opcode: number): string {
  return OP_NAMES.get(opcode) ?? "unknown";
}
