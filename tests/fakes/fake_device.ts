/** /dev/fuse without a kernel: a queue of messages to read, and the replies that were written. */

import assert from "node:assert/strict";
import type { Device } from "../../src/fuse/session.ts";
import { type ParsedReply, parseReply } from "./wire_bytes.ts";

const ENOENT = 2;
const EAGAIN = 11;
const ENODEV = 19;

export class FakeDevice implements Device {
  /** Whole reply messages the "kernel" took, in order. */
  readonly replies: Uint8Array[] = [];
  /** Replies it did not take. */
  readonly refused: Uint8Array[] = [];
  /** Timeouts of `wait`, in order. */
  readonly waits: number[] = [];
  /** Messages handed out. */
  readCount = 0;
  readonly #queue: (Uint8Array | number)[] = [];
  readonly #steps: (() => void)[] = [];
  readonly #refusals = new Map<bigint, number>();

  /** Requests to read, one message each; a number is minus errno. */
  push(...messages: (Uint8Array | number)[]): this {
    this.#queue.push(...messages);
    return this;
  }

  /**
   * Called when the session sleeps and nothing can be read, one step each time. After the last one
   * the device ends with ENODEV, as when the mount is taken away.
   */
  onWait(...steps: (() => void)[]): this {
    this.#steps.push(...steps);
    return this;
  }

  /** Replies to this request are not taken. */
  refuse(unique: number | bigint, errno = ENOENT): this {
    this.#refusals.set(BigInt(unique), errno);
    return this;
  }

  read(into: Uint8Array<ArrayBuffer>): number {
    const message = this.#queue.shift();
    if (message === undefined) return -EAGAIN;
    if (typeof message === "number") return message;
    this.readCount++;
    assert.ok(message.length <= into.length, "the buffer is too small for the request");
    into.set(message);
    return message.length;
  }

  write(reply: Uint8Array<ArrayBuffer>): number {
    const { unique } = parseReply(reply);
    const errno = this.#refusals.get(unique);
    if (errno !== undefined) {
      this.refused.push(reply.slice());
      return -errno;
    }
    this.replies.push(reply.slice());
    return reply.length;
  }

  wait(timeoutMs: number): boolean {
    this.waits.push(timeoutMs);
    if (this.#queue.length > 0) return true;
    const step = this.#steps.shift();
    if (step === undefined) this.#queue.push(-ENODEV);
    else step();
    return true;
  }

  /** All replies to one request. */
  repliesTo(unique: number | bigint): ParsedReply[] {
    return this.replies.map(parseReply).filter((reply) => reply.unique === BigInt(unique));
  }

  /** The one reply to a request. */
  replyTo(unique: number | bigint): ParsedReply {
    const replies = this.repliesTo(unique);
    assert.equal(replies.length, 1, `${replies.length} replies to ${unique}`);
    return replies[0] as ParsedReply;
  }
}
