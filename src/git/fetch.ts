/**
 * Brings objects of a partial store from its remote: by our own client where it can (wire.ts), with
 * `git fetch` where it cannot.
 *
 * Each fetch runs in a staging directory of its own (bare, alternates to the store, the store's
 * configuration included), so it meets no lock of another fetch, and its packs are moved into the
 * store complete. Write order: `.pack`, `.promisor` and `.keep` first, `.idx` last, because a
 * reader takes notice of a pack, and of whether it is a promisor's, when it sees the `.idx`; without
 * `.keep`, `git maintenance` rolls promisor packs into ordinary ones. What a failure leaves in
 * staging is removed at once, what a kill leaves before the directory is used again.
 *
 * A fetch has no time limit while something arrives (transfer.ts).
 */

import type { Clock } from "../clock.ts";
import { Failure, messageOf } from "../failure.ts";
import { logger } from "../log.ts";
import type { HostPath } from "../path.ts";
import { readIfExists, readTextIfExists } from "./files.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import type { Arriving } from "./pack_reader.ts";
import { gitText } from "./process.ts";
import type { PackRequest } from "./protocol_v2.ts";
import { loginsOf, readStoreConfig } from "./store.ts";
import { type Login, runTransfer } from "./transfer.ts";
import { isForGit, reasonForGit, Wire } from "./wire.ts";

export interface FetchOptions {
  readonly signal?: AbortSignal;
  /** Called whenever something arrived. */
  readonly onProgress?: () => void;
  /** Objects have come that can be read, checked, before the fetch has ended. */
  readonly onArriving?: (arriving: Arriving) => void;
}

export interface Fetched {
  readonly packBytes: number;
  /** Names of the packs that came (`pack-<hash>`). */
  readonly packs: readonly string[];
  /** Objects that the remote does not have (any more). */
  readonly lost: readonly Oid[];
  /** Objects that were not asked for after all: too many others were lost. */
  readonly left: readonly Oid[];
  /** All that was said to be arriving is among the packs. */
  readonly arrived: boolean;
}

/** Where objects come from. */
export interface ObjectSource {
  /**
   * These blobs, the first of them first of all. Throws Failure (the store is complete) or
   * GitError.
   */
  fetchBlobs(oids: readonly Oid[], options?: FetchOptions): Promise<Fetched>;
  /** A commit's whole tree, in the form that costs a server least. Throws as fetchBlobs. */
  fetchCommit(commitOid: Oid, options?: FetchOptions): Promise<Fetched>;
  /** Names of all packs that were fetched so and are here. */
  packs(): Promise<string[]>;
  /** What is in one of them. */
  objectsOf(pack: string): Promise<Oid[]>;
}

type Received = Pick<Fetched, "packBytes" | "packs" | "arrived">;

/** Content of a `.keep` of ours. */
const KEEP = "afs\n";

export interface GitFetchOptions {
  readonly storeGitDir: HostPath;
  readonly stagingDir: HostPath;
  readonly objectFormat: ObjectFormat;
  /** Default: the real time. */
  readonly clock?: Clock;
}

/** A fetch, in the words of our client and of git. */
interface Request {
  readonly pack: PackRequest;
  readonly args: readonly string[];
  readonly stdin: string;
}

/** After so long it is asked again whether our client may connect. */
const REASON_MS = 60_000;

/** So many lost objects cost one more request each, and nothing else. */
const LOST_ONE_BY_ONE = 4;
const NOT_OUR_REF = /not our ref ([0-9a-f]{40,64})/;
const FETCH_CONFIG = [
  "fetch.negotiationAlgorithm=noop",
  // A few objects without a filter would be unpacked, and only packs are moved into the store.
  "fetch.unpackLimit=1",
  // index-pack streams what is bigger instead of holding it.
  "core.bigFileThreshold=1m",
];
const FETCH = [
  "fetch",
  "--progress",
  "--no-tags",
  "--no-write-fetch-head",
  "--recurse-submodules=no",
  "--no-auto-maintenance",
];

export class GitFetch implements ObjectSource {
  readonly #options: GitFetchOptions;
  /** Numbers of staging directories not in use. */
  readonly #free: number[] = [];
  #slots = 0;
  /** The login of the last fetch, and of which list: refused ones would be tried each time. */
  #accepted: { readonly of: string; readonly login: Login } | null = null;

  #wire: Wire | null = null;
  /** Why git is to fetch, asked when; null: it was not asked. */
  #reason: { readonly atMs: number; readonly text: Promise<string | null> } | null = null;

  /** Why our client gave up, until git has done better. */
  #failed: string | null = null;

  constructor(options: GitFetchOptions) {
    this.#options = options;
  }

  /**
   * A server refuses the whole request for one object that it does not have, and names only that
   * one. It is taken out, and from the LOST_ONE_BY_ONEth on also the later half of what is still
   * wanted, so that n objects take LOST_ONE_BY_ONE + log2(n) + 2 requests at most, however many of
   * them are lost.
   */
  async fetchBlobs(oids: readonly Oid[], options: FetchOptions = {}): Promise<Fetched> {
    const { objectFormat } = this.#options;
    const lost: Oid[] = [];
    const left: Oid[] = [];
    let wanted = oids;
    let received: Received = { packBytes: 0, packs: [], arrived: false };
    while (wanted.length > 0) {
      try {
        received = await this.#fetch({
          pack: { wants: wanted, depth: null, blobless: true, objectFormat },
          args: [...FETCH, "--filter=blob:none", "--stdin", "origin"],
          stdin: `${wanted.join("\n")}\n`,
        }, options);
        break;
      } catch (error) {
        const missing = NOT_OUR_REF.exec(messageOf(error))?.[1] as Oid | undefined;
        if (missing === undefined || !wanted.includes(missing)) throw error;
        lost.push(missing);
        wanted = wanted.filter((oid) => oid !== missing);
        if (lost.length < LOST_ONE_BY_ONE) continue;
        const half = Math.ceil(wanted.length / 2);
        left.push(...wanted.slice(half));
        wanted = wanted.slice(0, half);
      }
    }
    return { ...received, lost, left };
  }

  async fetchCommit(commitOid: Oid, options: FetchOptions = {}): Promise<Fetched> {
    const { objectFormat } = this.#options;
    const received = await this.#fetch({
      pack: { wants: [commitOid], depth: 1, blobless: false, objectFormat },
      args: [...FETCH, "--refetch", "--no-filter", "--depth=1", "origin", commitOid],
      stdin: "",
    }, options);
    return { ...received, lost: [], left: [] };
  }

  async #fetch(request: Request, options: FetchOptions): Promise<Received> {
    // With a filter, git would ask a server that cannot filter for the same object without end.
    const config = await readStoreConfig(this.#options.storeGitDir);
    if (!config.partial) {
      throw new Failure("failed", "Cannot fetch: the remote gave all it has at once, and not this");
    }
    const logins = loginsOf(config);
    const slot = this.#free.pop() ?? this.#slots++;
    const dir = `${this.#options.stagingDir}/${slot}` as HostPath;
    try {
      await this.#prepare(dir);
      const arrived = await this.#fetchByWire(config.remoteUrl, logins, dir, request, options);
      if (!arrived) {
        await this.#prepare(dir);
        await this.#fetchByGit(config.remoteUrl, logins, dir, request, options);
        this.#preferGit();
      }
      return { ...await this.#install(dir), arrived };
    } catch (error) {
      // What has come of it is of no use, and may be what has filled the disk.
      await Deno.remove(dir, { recursive: true }).catch(() => {});
      throw error;
    } finally {
      this.#free.push(slot);
    }
  }

  /** False: git is to do it. */
  async #fetchByWire(
    remoteUrl: string,
    logins: readonly Login[],
    dir: HostPath,
    { pack }: Request,
    { signal, onProgress, onArriving }: FetchOptions,
  ): Promise<boolean> {
    if (await this.#reasonForGit(remoteUrl) !== null) return false;
    const [login = null] = this.#acceptedFirst(logins);
    try {
      this.#wire ??= new Wire(remoteUrl);
      await this.#wire.receive(pack, {
        packDir: `${dir}/objects/pack`,
        login,
        clock: this.#options.clock,
        signal,
        onProgress,
        onArriving,
      });
      return true;
    } catch (error) {
      if (!isForGit(error)) throw error;
      logger("git").info("Fetching with git instead", { cause: error.message });
      this.#failed = error.message;
      return false;
    }
  }

  async #reasonForGit(remoteUrl: string): Promise<string | null> {
    const now = performance.now();
    if (this.#reason === null || now - this.#reason.atMs > REASON_MS) {
      const text = reasonForGit(remoteUrl).catch(messageOf);
      this.#reason = { atMs: now, text };
      const reason = await text;
      if (reason !== null) logger("git").info("Fetching with git", { cause: reason });
    }
    return await this.#reason.text;
  }

  /** git could what our client could not: it need not fail each time. */
  #preferGit(): void {
    if (this.#failed !== null) {
      this.#reason = { atMs: performance.now(), text: Promise.resolve(this.#failed) };
    }
    this.#failed = null;
  }

  async #fetchByGit(
    remoteUrl: string,
    logins: readonly Login[],
    dir: HostPath,
    { args, stdin }: Request,
    { signal, onProgress }: FetchOptions,
  ): Promise<void> {
    const { login } = await runTransfer(args, {
      gitDir: dir,
      remoteUrl,
      logins: this.#acceptedFirst(logins),
      packDir: `${dir}/objects/pack`,
      config: FETCH_CONFIG,
      stdin: new TextEncoder().encode(stdin),
      clock: this.#options.clock,
      ...(signal === undefined ? {} : { signal }),
      onProgress,
    });
    this.#accepted = { of: JSON.stringify(logins), login };
  }

  #acceptedFirst(logins: readonly Login[]): readonly Login[] {
    if (this.#accepted?.of !== JSON.stringify(logins)) return logins;
    const { login: accepted } = this.#accepted;
    return [accepted, ...logins.filter((login) => login?.path !== accepted?.path)];
  }

  async #prepare(dir: HostPath): Promise<void> {
    const { storeGitDir, objectFormat } = this.#options;
    await Deno.remove(dir, { recursive: true }).catch(ignoreNotFound);
    await Deno.mkdir(`${dir}/objects/info`, { recursive: true, mode: 0o700 });
    await Deno.mkdir(`${dir}/objects/pack`);
    await Deno.mkdir(`${dir}/refs`);
    await Deno.writeTextFile(`${dir}/HEAD`, "ref: refs/heads/none\n");
    await Deno.writeTextFile(`${dir}/objects/info/alternates`, `${storeGitDir}/objects\n`);
    await Deno.writeTextFile(
      `${dir}/config`,
      [
        "[include]",
        `path = ${JSON.stringify(`${storeGitDir}/config`)}`,
        "[core]",
        "repositoryFormatVersion = 1",
        "bare = true",
        "[extensions]",
        "partialClone = origin",
        ...(objectFormat === "sha1" ? [] : [`objectFormat = ${objectFormat}`]),
        "",
      ].join("\n"),
    );
  }

  async packs(): Promise<string[]> {
    const dir = this.#packDir;
    const packs: string[] = [];
    for await (const { name } of Deno.readDir(dir)) {
      if (name.endsWith(".keep")) packs.push(name.slice(0, -".keep".length));
    }
    return packs;
  }

  async objectsOf(pack: string): Promise<Oid[]> {
    const index = await readIfExists(`${this.#packDir}/${pack}.idx`);
    // Another fetch of the store has packs with a `.keep` too, while it runs.
    if (index === null || await readTextIfExists(`${this.#packDir}/${pack}.keep`) !== KEEP) {
      return [];
    }
    const args = ["show-index", `--object-format=${this.#options.objectFormat}`];
    const text = await gitText(args, { stdin: index });
    return text.split("\n").flatMap((line) => line.split(" ")[1] as Oid ?? []);
  }

  get #packDir(): string {
    return `${this.#options.storeGitDir}/objects/pack`;
  }

  /** Moves the packs of a staging directory into the store. */
  async #install(dir: HostPath): Promise<Omit<Received, "arrived">> {
    const from = `${dir}/objects/pack`;
    const to = this.#packDir;
    const packs: string[] = [];
    let packBytes = 0;
    for await (const { name } of Deno.readDir(from)) {
      if (!/^pack-[0-9a-f]+\.pack$/.test(name)) continue;
      const pack = name.slice(0, -".pack".length);
      packs.push(pack);
      packBytes += (await Deno.stat(`${from}/${name}`)).size;
      await Deno.writeTextFile(`${to}/${pack}.keep`, KEEP);
      await Deno.writeTextFile(`${to}/${pack}.promisor`, "");
      for (const suffix of ["rev", "pack", "idx"]) {
        const file = `${from}/${pack}.${suffix}`;
        await Deno.chmod(file, 0o444).catch(ignoreNotFound);
        await Deno.rename(file, `${to}/${pack}.${suffix}`).catch(ignoreNotFound);
      }
      await Deno.chmod(`${to}/${pack}.keep`, 0o444);
      await Deno.chmod(`${to}/${pack}.promisor`, 0o444);
    }
    return { packBytes, packs };
  }
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
