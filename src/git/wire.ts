/**
 * Our own client for a remote, over http(s): one request where git needs three and two processes,
 * on a connection that is kept, and objects that can be read while the rest arrives.
 *
 * It does what is common. For whatever is not (`reasonForGit`, and each ProtocolError or
 * CorruptPack) the caller runs git instead, once; what has been received until then is thrown away.
 *
 * A login is read by git itself (`git credential`) from the credentials file; it is kept in memory
 * until it is refused, and goes to no other host.
 */

import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { basicAuthorization, readLogin } from "./credentials.ts";
import { LoginRefused, postUploadPack } from "./http_transport.ts";
import { hexOf, type ObjectFormat } from "./oid.ts";
import { PackDirectory } from "./pack_directory.ts";
import { CorruptPack } from "./pack_index.ts";
import type { Arriving } from "./pack_reader.ts";
import { PackStream } from "./pack_stream.ts";
import { ProtocolError } from "./pkt_line.ts";
import { gitText, readVariable, runGit } from "./process.ts";
import {
  fetchPack,
  lsRefs,
  type PackAnswer,
  type PackRequest,
  type RemoteRef,
} from "./protocol_v2.ts";
import { parseRemote } from "./remote_url.ts";
import type { Login } from "./transfer.ts";

/** What tells git, or its curl, to connect in another way, by scheme. */
const VARIABLES: Readonly<Record<string, readonly string[]>> = {
  http: ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "GIT_ALLOW_PROTOCOL"],
  https: [
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "GIT_ALLOW_PROTOCOL",
    "GIT_SSL_NO_VERIFY",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
  ],
};

/** A compiled program needs `--allow-env` for these names. */
export const CONNECTION_VARIABLES: readonly string[] = [
  ...new Set(Object.values(VARIABLES).flat()),
];

/** Configuration that only git follows: other hosts, proxies, headers, checks. */
const CONNECTION_CONFIG =
  "^(http|url|protocol)\\.|^(fetch|transfer)\\.(fsckobjects|unpacklimit|bundleuri)$|^remote\\..*\\.(proxy|uploadpack|vcs)$";

export interface WireOptions {
  readonly signal?: AbortSignal | undefined;
  readonly login: Login;
  readonly onProgress?: (() => void) | undefined;
  /** Default: the real time. */
  readonly clock?: Clock | undefined;
}

export interface ReceiveOptions extends WireOptions {
  /** `objects/pack` of a git directory that nobody else writes to. */
  readonly packDir: string;
  readonly onArriving?: ((arriving: Arriving) => void) | undefined;
}

/**
 * Why git is to connect to this remote and not we; null: nothing speaks against it. Asks git for
 * the configuration.
 */
export async function reasonForGit(remoteUrl: string): Promise<string | null> {
  const { scheme } = parseRemote(remoteUrl);
  const variables = VARIABLES[scheme];
  if (variables === undefined) return `the remote is reached over ${scheme}`;
  for (const name of variables) {
    if ((readVariable(name) ?? "") !== "") return `the environment has ${name}`;
  }
  const names = await gitText(["config", "--list", "--name-only"]);
  const pattern = new RegExp(CONNECTION_CONFIG);
  // BASE_CONFIG (process.ts) is among them.
  const key = names.split("\n").find((name) => name !== "protocol.version" && pattern.test(name));
  return key === undefined ? null : `git's configuration has ${key.split(".")[0]}`;
}

/** Whether git may have more luck with the same request. */
export function isForGit(error: unknown): error is Error {
  return error instanceof ProtocolError || error instanceof CorruptPack;
}

export class Wire {
  readonly #remoteUrl: string;
  /** Path of a credentials file to what is sent. */
  readonly #authorizations = new Map<string, string>();

  constructor(remoteUrl: string) {
    this.#remoteUrl = remoteUrl;
  }

  /** Refs whose names begin so. Throws ProtocolError, GitError, or the signal's reason. */
  async refs(prefixes: readonly string[], options: WireOptions): Promise<RemoteRef[]> {
    return await lsRefs(await this.#post(options), prefixes);
  }

  /** The answer to a fetch, to be read to its end. Throws as `refs`, and so does reading it. */
  async fetch(request: PackRequest, options: WireOptions): Promise<PackAnswer> {
    return await fetchPack(await this.#post(options), request);
  }

  /**
   * Objects as a pack with its index: `pack-<hash>`. Throws as `refs`, CorruptPack, and Failure when
   * the disk is full.
   */
  async receive(request: PackRequest, options: ReceiveOptions): Promise<string> {
    const { pack } = await this.fetch(request, options);
    return await receivePack(pack, request.objectFormat, options);
  }

  async #post(options: WireOptions): Promise<(body: string) => AsyncIterable<Uint8Array>> {
    const authorization = await this.#authorize(options.login);
    return (body) => this.#send(body, { ...options, authorization });
  }

  /** A login that has been replaced since it was read is read again, once. */
  async *#send(
    body: string,
    options: WireOptions & { readonly authorization: string | null },
  ): AsyncGenerator<Uint8Array> {
    const { login, authorization } = options;
    try {
      yield* postUploadPack(this.#remoteUrl, body, options);
    } catch (error) {
      if (!(error instanceof LoginRefused) || login === null) throw error;
      this.#authorizations.delete(login.path);
      const again = await this.#authorize(login);
      if (again === authorization) throw error;
      yield* postUploadPack(this.#remoteUrl, body, { ...options, authorization: again });
    }
  }

  async #authorize(login: Login): Promise<string | null> {
    if (login === null) return null;
    const known = this.#authorizations.get(login.path);
    if (known !== undefined) return known;
    let authorization: string;
    try {
      authorization = basicAuthorization(await readLogin(login));
    } catch {
      // git says why.
      throw new ProtocolError("no login");
    }
    this.#authorizations.set(login.path, authorization);
    return authorization;
  }
}

/** Packs that this thread has begun to receive. */
let received = 0;

/**
 * What arrives as a file of `packDir`, with its index. No two packs arrive under one name, whatever
 * becomes of them: readers know them by it, and would look for the one's objects in the other.
 */
async function receivePack(
  pack: AsyncIterable<Uint8Array>,
  format: ObjectFormat,
  options: ReceiveOptions,
): Promise<string> {
  const { packDir, onArriving } = options;
  const path = `${packDir}/tmp_pack_afs${++received}`;
  const file = Deno.openSync(path, { write: true, createNew: true });
  const sink = { write: (bytes: Uint8Array) => writeAll(file, bytes), file: readerOf(path) };
  const stream = new PackStream(format, sink, ({ oids, offsets, sizes }) => {
    onArriving?.({
      path,
      oids: oids.buffer,
      offsets: offsets.buffer,
      sizes: sizes.buffer,
    });
  });
  try {
    for await (const bytes of pack) await stream.write(bytes);
    const { checksum, index } = await stream.finish();
    const name = `pack-${hexOf(checksum)}`;
    await file.syncData();
    await writeIndex(`${packDir}/${name}.idx`, path, index, format, options);
    Deno.renameSync(path, `${packDir}/${name}.pack`);
    return name;
  } catch (error) {
    if (!isFull(error)) throw error;
    throw new Failure("failed", "Cannot fetch: the disk is full; free some space, then try again", {
      cause: error,
    });
  } finally {
    stream.close();
    sink.file.close();
    file.close();
  }
}

function readerOf(path: string) {
  return new PackDirectory().open(path);
}

async function writeIndex(
  path: string,
  packPath: string,
  index: Uint8Array | null,
  format: ObjectFormat,
  { signal }: ReceiveOptions,
): Promise<void> {
  if (index !== null) {
    const file = Deno.openSync(path, { write: true, createNew: true });
    try {
      writeAll(file, index);
      await file.syncData();
    } finally {
      file.close();
    }
    return;
  }
  const args = ["index-pack", `--object-format=${format}`, "-o", path, packPath];
  try {
    await runGit(args, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw new CorruptPack("git cannot index the pack", { cause: error });
  }
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

function isFull(error: unknown): boolean {
  return error instanceof Error && /os error (?:28|122)\b/.test(error.message);
}
