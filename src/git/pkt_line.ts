/**
 * pkt-lines (gitprotocol-common): four hex digits of a length that counts itself, and the content.
 * A length of 0, 1 or 2 is a packet of its own kind.
 *
 * Nothing a server sends is held beyond one packet (65,520 bytes).
 */

/** What answers does not speak as expected: another client may fare better. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Content, which is good until the next one is read, or a packet without. */
export type Packet = Uint8Array<ArrayBuffer> | "flush" | "delimiter" | "end";

export const FLUSH = "0000";
export const DELIMITER = "0001";

const LENGTH_BYTES = 4;
/** LARGE_PACKET_MAX in pkt-line.h. */
const PACKET_BYTES_MAX = 65_520;
const SPECIAL: readonly Packet[] = ["flush", "delimiter", "end"];

/** A line as git sends them. `text` is ASCII without its newline. */
export function packetLine(text: string): string {
  return `${(text.length + LENGTH_BYTES + 1).toString(16).padStart(LENGTH_BYTES, "0")}${text}\n`;
}

export class PacketReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  /** What of a packet came in the chunks before. */
  readonly #held = new Uint8Array(PACKET_BYTES_MAX);
  #chunk: Uint8Array = new Uint8Array();
  #at = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next packet. Throws ProtocolError where there is none, and what the source throws. */
  async next(): Promise<Packet> {
    const digits = await this.#take(LENGTH_BYTES);
    const text = String.fromCharCode(...digits);
    if (!/^[0-9A-Fa-f]{4}$/.test(text)) throw new ProtocolError("a packet without a length");
    const length = Number.parseInt(text, 16);
    const special = SPECIAL[length];
    if (special !== undefined) return special;
    if (length < LENGTH_BYTES || length > PACKET_BYTES_MAX) {
      throw new ProtocolError(`a packet of ${length} bytes`);
    }
    return await this.#take(length - LENGTH_BYTES);
  }

  /** Throws ProtocolError when something follows. */
  async expectEnd(): Promise<void> {
    while (this.#at === this.#chunk.length) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return;
      this.#chunk = value;
      this.#at = 0;
    }
    throw new ProtocolError("something behind the answer's end");
  }

  /** Nothing more is read: the source may let go of what it holds. Never throws. */
  async close(): Promise<void> {
    try {
      await this.#chunks.return?.();
    } catch {
      // It has failed, which whoever read it knows.
    }
  }

  async #take(count: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#at + count <= this.#chunk.length) {
      this.#at += count;
      return this.#chunk.subarray(this.#at - count, this.#at) as Uint8Array<ArrayBuffer>;
    }
    let done = 0;
    while (done < count) {
      if (this.#at === this.#chunk.length) {
        const next = await this.#chunks.next();
        if (next.done === true) throw new ProtocolError("an answer that ends too early");
        this.#chunk = next.value;
        this.#at = 0;
      }
      const part = this.#chunk.subarray(this.#at, this.#at + count - done);
      this.#held.set(part, done);
      done += part.length;
      this.#at += part.length;
    }
    return this.#held.subarray(0, count);
  }
}
