/** What one row of the table of opcodes is, and what its handler is given. */

import type { RequestReader } from "./decode.ts";
import type { ReplyWriter } from "./encode.ts";
import type { Filesystem } from "./filesystem.ts";

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
export type Handled = number | null;

export interface Op {
  readonly name: string;
  /** The kernel remembers that answer for the life of the mount. */
  readonly mayAnswerEnosys: boolean;
  /** Throws FsError, Malformed, Parked. */
  handle(context: OpContext): Handled;
}
