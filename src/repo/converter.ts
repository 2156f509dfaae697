/**
 * Makes what a checkout would write of the files of one mount, when somebody looks at them.
 *
 *   state     event                                       next      what happens
 *   (none)    convert                                     queued    in its lane
 *   queued    the lane is free                            running   with others of its conversion
 *   running   git has written it, and it was taken        (none)    its size is told
 *   running   git failed for several                      queued    each alone, to find the one
 *   running   git failed for it, or wrote something else  (none)    -1 is told
 *
 * Two lanes: conversions that git makes by itself, and those with a driver, which may hang or
 * download. In each one git runs at a time, in a git directory of ours, as the owner, and writes to
 * a work tree of the owner's.
 *
 * Invariants
 *  1. What the owner wrote is hostile until it was taken: opened below the descriptor of the work
 *     tree without following a link, a regular file of the owner's, and then copied. The owner
 *     cannot reach the copy.
 *  2. A file in `converted/` is complete (it is renamed), and never changes.
 *  3. What git makes by itself is in `made/`, and of this boot: nothing is synced, a power failure
 *     may cut it, and another boot makes it anew. What a driver has made is in `kept/`, and is on
 *     the disk before it is told: another time the driver may make something else, or nothing.
 */

import { messageOf } from "../failure.ts";
import type { OwnersGit } from "../git/attributes.ts";
import { type BaseId, plainOid, suffixOf } from "../git/base_id.ts";
import {
  checkOut,
  type CheckoutDir,
  type CheckoutFile,
  createCheckoutDir,
} from "../git/checkout.ts";
import { attributesLine, type Conversion } from "../git/conversion.ts";
import { makeFolder, readTextIfExists, removeTree, writeFileAtomically } from "../git/files.ts";
import { GitError } from "../git/process.ts";
import { logger } from "../log.ts";
import { CONVERTED_FOLDERS } from "../mount/messages.ts";
import { S_IFMT, S_IFREG } from "../overlay/inode.ts";
import { turn } from "../promises.ts";
import { ContextReader } from "../snapshot/contexts.ts";
import {
  bootId,
  changeOwner,
  closeFd,
  effectiveUid,
  O,
  openAt,
  openFd,
  ownedStatFd,
  preadFull,
  pwriteAll,
  unlinkAt,
} from "../sys/mod.ts";
import type { Layout } from "./layout.ts";
import { ownersGitOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

/** A size, or -1: it could not be converted. */
export type Converted = readonly [BaseId, number];

export interface ConverterOptions {
  readonly layout: Layout;
  readonly record: RepoRecord;
  readonly onConverted: (converted: readonly Converted[]) => void;
  /** A driver runs, and may yet come to its end: who waits for it waits on. */
  readonly onProgress: () => void;
}

interface Wanted {
  readonly id: BaseId;
  readonly conversion: Conversion;
  /** Its run has failed before: no other goes with it. */
  alone: boolean;
}

/** Below `converted/`, of each lane. */
const FOLDERS = { plain: CONVERTED_FOLDERS[0], drivers: CONVERTED_FOLDERS[1] } as const;

/** Where a file is copied to. */
interface Taken {
  readonly folder: string;
  readonly name: string;
  /** It is on the disk when it is there. */
  readonly durable: boolean;
}

/** Files of one run. */
const FILES_MAX = 1000;
const COPY_BYTES = 1024 * 1024;
/** Its bytes are good until the next turn. */
const buffer = new Uint8Array(COPY_BYTES);
/** Taken without a pause: some ms. */
const FILES_PER_TURN = 50;
/** Copied without a pause: some ms. */
const TURN_BYTES = 8 * COPY_BYTES;
/** A driver says nothing of how far it is: who waits for it is patient for so long. */
const PATIENCE_MS = 5 * 60_000;
const PROGRESS_MS = 5_000;
/** Of what git and a driver say of a failure. */
const WORDS_MAX = 2000;

export class Converter {
  readonly #options: ConverterOptions;
  readonly #stopping = new AbortController();
  readonly #lanes: { readonly plain: Lane; readonly drivers: Lane };
  #contexts: ContextReader | null = null;
  #folder: Promise<void> | null = null;

  constructor(options: ConverterOptions) {
    this.#options = options;
    const { signal } = this.#stopping;
    const prepare = async (name: keyof typeof FOLDERS) => {
      // Once: what one lane has made stays when the other begins.
      this.#folder ??= forgetOtherBoots(options.record, options.layout);
      await this.#folder.catch((error) => {
        this.#folder = null;
        throw error;
      });
      return await prepareDir(name, options);
    };
    this.#lanes = {
      plain: new Lane("plain", () => prepare("plain"), options, signal),
      drivers: new Lane("drivers", () => prepare("drivers"), options, signal),
    };
  }

  /** Each is answered, unless it is stopped. Never throws. */
  convert(ids: readonly BaseId[]): void {
    const lost: Converted[] = [];
    for (const id of ids) {
      const conversion = this.#conversionOf(id);
      if (conversion === null) lost.push([id, -1]);
      else this.#lanes[conversion.filter === null ? "plain" : "drivers"].add(id, conversion);
    }
    if (lost.length > 0) this.#options.onConverted(lost);
  }

  #conversionOf(id: BaseId): Conversion | null {
    const { layout, record } = this.#options;
    const suffix = suffixOf(id);
    this.#contexts ??= ContextReader.open(layout.repo(record.id).contextsPath);
    return suffix === null ? null : this.#contexts?.conversion(suffix) ?? null;
  }

  /** Ends what runs; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the mount is gone"));
    await Promise.all([this.#lanes.plain.idle, this.#lanes.drivers.idle]);
    this.#contexts?.close();
    this.#contexts = null;
  }
}

class Lane {
  readonly #name: keyof typeof FOLDERS;
  readonly #prepare: () => Promise<CheckoutDir>;
  readonly #options: ConverterOptions;
  readonly #signal: AbortSignal;
  readonly #queue = new Map<BaseId, Wanted>();
  /** Being converted now. */
  readonly #running = new Set<BaseId>();
  #dir: CheckoutDir | null = null;
  #work: Promise<void> | null = null;

  constructor(
    name: keyof typeof FOLDERS,
    prepare: () => Promise<CheckoutDir>,
    options: ConverterOptions,
    signal: AbortSignal,
  ) {
    this.#name = name;
    this.#prepare = prepare;
    this.#options = options;
    this.#signal = signal;
  }

  get idle(): Promise<void> {
    return this.#work ?? Promise.resolve();
  }

  add(id: BaseId, conversion: Conversion): void {
    if (!this.#running.has(id) && !this.#queue.has(id)) {
      this.#queue.set(id, { id, conversion, alone: false });
    }
    this.#work ??= this.#drain().finally(() => this.#work = null);
  }

  /** Never throws. */
  async #drain(): Promise<void> {
    // What comes in the same turn goes along.
    await turn();
    while (this.#queue.size > 0 && !this.#signal.aborted) {
      const batch = this.#next();
      for (const { id } of batch) this.#running.add(id);
      let converted: Converted[];
      try {
        const dir = this.#dir ??= await this.#prepare();
        converted = await this.#run(dir, batch);
      } catch (error) {
        if (this.#signal.aborted) return;
        converted = this.#onFailure(batch, wordsOf(error));
      } finally {
        this.#running.clear();
      }
      if (converted.length > 0) this.#options.onConverted(converted);
    }
  }

  /** The oldest, and all that git makes in the same run. */
  #next(): Wanted[] {
    const batch: Wanted[] = [];
    const paths = new Set<string>();
    let line = "";
    for (const wanted of this.#queue.values()) {
      const first = batch[0];
      if (first === undefined) line = attributesLine(wanted.conversion);
      else if (first.alone || wanted.alone || line !== attributesLine(wanted.conversion)) continue;
      const { path } = fileOf(wanted);
      if (paths.has(path)) continue;
      paths.add(path);
      batch.push(wanted);
      if (first?.alone === true || batch.length === FILES_MAX) break;
    }
    for (const { id } of batch) this.#queue.delete(id);
    return batch;
  }

  async #run(dir: CheckoutDir, batch: readonly Wanted[]): Promise<Converted[]> {
    const { layout, record } = this.#options;
    const folder = `${layout.repo(record.id).convertedDir}/${FOLDERS[this.#name]}`;
    const durable = this.#name === "drivers";
    const { conversion } = batch[0] as Wanted;
    const owner = dir.owners.owner?.uid ?? effectiveUid();
    const patience = conversion.filter === null ? null : this.#beginPatience();
    const written = await checkOut(dir, batch.map(fileOf), conversion, this.#signal)
      .finally(() => clearInterval(patience ?? undefined));
    const workFd = openFd(dir.workDir, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    try {
      const converted: Converted[] = [];
      for (const wanted of batch) {
        const name = written.get(fileOf(wanted).path);
        const size = name === undefined
          ? -1
          : await takeFile(workFd, name, owner, { folder, name: wanted.id, durable });
        if (size < 0) this.#tell([wanted], "git has not written it");
        if (converted.push([wanted.id, size]) % FILES_PER_TURN === 0) await turn();
      }
      return converted;
    } finally {
      closeFd(workFd);
    }
  }

  #beginPatience(): number {
    let left = PATIENCE_MS / PROGRESS_MS;
    const timer = setInterval(() => {
      if (--left <= 0) clearInterval(timer);
      this.#options.onProgress();
    }, PROGRESS_MS);
    return timer;
  }

  /** What fails alone has failed. */
  #onFailure(batch: readonly Wanted[], error: string): Converted[] {
    // What it left in the scratch directory is not looked at again.
    this.#dir = null;
    if (batch.length > 1) {
      for (const wanted of batch) this.#queue.set(wanted.id, { ...wanted, alone: true });
      return [];
    }
    this.#tell(batch, error);
    return batch.map(({ id }) => [id, -1]);
  }

  #tell(batch: readonly Wanted[], error: string): void {
    const { name: repo } = this.#options.record;
    for (const { id, conversion } of batch) {
      const driver = conversion.filter?.name ?? "";
      logger("convert").warn("Cannot convert", { repo, oid: plainOid(id), driver, error });
    }
  }
}

/** What a driver says is the cause, where git only says that it failed. */
function wordsOf(error: unknown): string {
  const words = error instanceof GitError ? error.stderr.trim().slice(-WORDS_MAX) : "";
  return words === "" ? messageOf(error) : words.replaceAll(/\s*\n\s*/g, "; ");
}

/** A driver is told the path; of others git needs a name that nothing else has. */
function fileOf({ id, conversion }: Wanted): CheckoutFile {
  return { path: conversion.filter?.path ?? id, oid: plainOid(id) };
}

/** Makes what a lane needs, with an empty work tree. */
async function prepareDir(
  name: string,
  { layout, record }: ConverterOptions,
): Promise<CheckoutDir> {
  const { convertDir } = layout.repo(record.id);
  const owners: OwnersGit = await ownersGitOf(record, layout);
  const lane = `${convertDir}/${name}`;
  const dir = {
    gitDir: `${lane}/git`,
    workDir: `${lane}/work`,
    objectFormat: record.objectFormat,
    owners,
  };
  await makeFolder(convertDir, 0o711);
  await makeFolder(lane, 0o711);
  await removeTree(dir.workDir);
  await makeFolder(dir.workDir, 0o700);
  if (owners.owner !== null) changeOwner(dir.workDir, owners.owner.uid, owners.owner.gid);
  await createCheckoutDir(dir, layout.store(record.storeId).gitDir);
  return dir;
}

/**
 * Copies what the owner's git has written; its size, or -1: it is not what it should be. Throws
 * FsError.
 */
export async function takeFile(
  workFd: number,
  temporary: string,
  ownerUid: number,
  to: Taken,
): Promise<number> {
  let from: number;
  try {
    // A fifo in its place must not hold this thread.
    from = openAt(workFd, temporary, O.RDONLY | O.NONBLOCK);
  } catch {
    return -1;
  }
  try {
    const { mode, uid } = ownedStatFd(from);
    if ((mode & S_IFMT) !== S_IFREG || uid !== ownerUid) return -1;
    unlinkAt(workFd, temporary);
    return await copyTo(from, to);
  } finally {
    closeFd(from);
  }
}

async function copyTo(from: number, { folder, name, durable }: Taken): Promise<number> {
  const path = `${folder}/${name}`;
  const temporary = `${path}.new`;
  const to = openFd(temporary, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  try {
    let done = 0;
    for (;;) {
      const count = preadFull(from, buffer, done);
      if (pwriteAll(to, buffer.subarray(0, count), done) < count) {
        throw new Error("the disk is full");
      }
      done += count;
      if (count < buffer.length) break;
      if (done % TURN_BYTES === 0) await turn();
    }
    if (durable) await sync(temporary);
    Deno.renameSync(temporary, path);
    return done;
  } finally {
    closeFd(to);
  }
}

/** Not on this thread, which would wait for the disk. */
async function sync(path: string): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  await file.sync();
}

/** Makes the folders; what was made in another boot goes. Before a mount that has some. */
export async function forgetOtherBoots({ id }: RepoRecord, layout: Layout): Promise<void> {
  const { convertedDir } = layout.repo(id);
  const path = `${convertedDir}/boot`;
  const written = await readTextIfExists(path);
  if (written === bootId()) return;
  await makeFolder(convertedDir, 0o700);
  await removeTree(`${convertedDir}/${FOLDERS.plain}`);
  for (const folder of Object.values(FOLDERS)) await makeFolder(`${convertedDir}/${folder}`, 0o700);
  await writeFileAtomically(path, bootId(), 0o600);
}
