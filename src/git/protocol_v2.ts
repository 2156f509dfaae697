/**
 * The two commands of protocol v2 that are used here (gitprotocol-v2), without asking for the
 * server's capabilities first: one that does not know a command or a line of it ends with an error,
 * and then git, which asks, has its turn.
 *
 * Packs are never thin: what arrives is complete in itself but for the objects that are filtered.
 */

import { byteString } from "../path.ts";
import { GitError } from "./process.ts";
import { isOid, type ObjectFormat, type Oid } from "./oid.ts";
import {
  DELIMITER,
  FLUSH,
  type Packet,
  packetLine,
  PacketReader,
  ProtocolError,
} from "./pkt_line.ts";

/** Sends a request; what it answers with, as it comes. */
export type Post = (body: string) => AsyncIterable<Uint8Array>;

export interface RemoteRef {
  /** As a byte string. */
  readonly name: string;
  readonly oid: Oid;
  /** The ref that this one stands for (HEAD); null: none. */
  readonly target: string | null;
}

export interface PackRequest {
  readonly wants: readonly Oid[];
  /** So many commits of each; null: all. */
  readonly depth: number | null;
  /** No blobs but those that are wanted by name. */
  readonly blobless: boolean;
  readonly objectFormat: ObjectFormat;
}

export interface PackAnswer {
  /** Commits whose parents are left out. */
  readonly shallow: readonly Oid[];
  /** The pack, to be read to its end. */
  readonly pack: AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** Of the lines of an answer that are not the pack: who sends more is no git server. */
const LINES_MAX = 100_000;
const LINES_BYTES_MAX = 32 * 1024 ** 2;
const AGENT = "agent=afs";

/** Refs whose names begin so. Throws ProtocolError, and what the transport throws. */
export async function lsRefs(post: Post, prefixes: readonly string[]): Promise<RemoteRef[]> {
  const body = [
    packetLine("command=ls-refs"),
    packetLine(AGENT),
    DELIMITER,
    packetLine("symrefs"),
    ...prefixes.map((prefix) => packetLine(`ref-prefix ${prefix}`)),
    FLUSH,
  ].join("");
  const packets = new PacketReader(post(body));
  try {
    const refs = await linesUntil(packets, "flush", new Lines());
    await packets.expectEnd();
    return refs.map(parseRef);
  } finally {
    await packets.close();
  }
}

function parseRef(line: string): RemoteRef {
  const [oid = "", name = "", ...attributes] = line.split(" ");
  // A HEAD without commits is `unborn`, and has none.
  if (!isOid(oid) || name === "") throw new ProtocolError("a ref that cannot be read");
  const target = attributes.find((attribute) => attribute.startsWith("symref-target:"));
  return { name, oid, target: target?.slice("symref-target:".length) ?? null };
}

/**
 * Objects, as one pack. Throws ProtocolError, GitError for what the server refuses by name, and
 * what the transport throws; so does reading the pack.
 */
export async function fetchPack(post: Post, request: PackRequest): Promise<PackAnswer> {
  const { wants, depth, blobless, objectFormat } = request;
  const body = [
    packetLine("command=fetch"),
    packetLine(AGENT),
    ...(objectFormat === "sha1" ? [] : [packetLine(`object-format=${objectFormat}`)]),
    DELIMITER,
    packetLine("ofs-delta"),
    packetLine("no-progress"),
    ...(depth === null ? [] : [packetLine(`deepen ${depth}`)]),
    ...(blobless ? [packetLine("filter blob:none")] : []),
    ...wants.map((oid) => packetLine(`want ${oid}`)),
    packetLine("done"),
    FLUSH,
  ].join("");
  const packets = new PacketReader(post(body));
  try {
    return { shallow: await readShallow(packets), pack: demultiplex(packets) };
  } catch (error) {
    await packets.close();
    throw error;
  }
}

/** What is before the pack. */
async function readShallow(packets: PacketReader): Promise<Oid[]> {
  const shallow: Oid[] = [];
  const lines = new Lines();
  for (;;) {
    const section = lines.take(await packets.next());
    if (section === "packfile") return shallow;
    if (section !== "shallow-info") throw refusal(section);
    for (const line of await linesUntil(packets, "delimiter", lines)) {
      const [kind, oid = ""] = line.split(" ");
      if (!isOid(oid)) throw new ProtocolError("a shallow commit that cannot be read");
      if (kind === "shallow") shallow.push(oid);
    }
  }
}

/** Sideband: 1 is the pack, 2 what the server says, 3 why it gives up. */
async function* demultiplex(packets: PacketReader): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  try {
    for (;;) {
      const packet = await packets.next();
      if (packet === "flush") break;
      if (typeof packet === "string") throw new ProtocolError(`an unexpected ${packet}`);
      if (packet[0] === 1) yield packet.subarray(1);
      else if (packet[0] === 3) throw refusal(`remote error: ${textOf(packet.subarray(1))}`);
      else if (packet[0] !== 2) throw new ProtocolError("a band that does not exist");
    }
    await packets.expectEnd();
  } finally {
    await packets.close();
  }
}

async function linesUntil(packets: PacketReader, end: Packet, lines: Lines): Promise<string[]> {
  const found: string[] = [];
  for (;;) {
    const packet = await packets.next();
    if (packet === end) return found;
    const line = lines.take(packet);
    if (line.startsWith("ERR ")) throw refusal(line);
    found.push(line);
  }
}

/** The lines of one answer, in all its sections. */
class Lines {
  #count = 0;
  #bytes = 0;

  /** A packet as a line. Throws ProtocolError. */
  take(packet: Packet): string {
    const line = textOf(packet);
    this.#bytes += line.length;
    if (++this.#count > LINES_MAX || this.#bytes > LINES_BYTES_MAX) {
      throw new ProtocolError("too many lines");
    }
    return line;
  }
}

function textOf(packet: Packet): string {
  if (typeof packet === "string") throw new ProtocolError(`an unexpected ${packet}`);
  return byteString(packet).replace(/\n$/, "");
}

/** What git says about an object that the server does not have is what git itself would say. */
function refusal(line: string): Error {
  const text = line.replace(/^ERR /, "");
  if (/not our ref [0-9a-f]{40}/.test(text)) {
    return new GitError("fetch", 128, `fatal: remote error: ${text}`);
  }
  return new ProtocolError(`it says: ${text.slice(0, 200)}`);
}
