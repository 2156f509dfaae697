/**
 * What a checkout of a tree would convert, as the id of its root (git/base_id.ts).
 *
 * Most trees have nothing to convert, and finding that out must cost a mount as little as possible:
 *
 *     the owner's configuration, info/attributes, global or system attributes matter   all is asked
 *     an attributes file of the tree has a word that matters                           all is asked
 *     else                                                                             a plain id
 *
 * The attributes files have to be here for that: one request brings all that are not. "All is asked"
 * is `git check-attr` for every file of the tree (git/attributes.ts).
 *
 * It is found out when a tree comes beneath a work tree, with the attributes and the configuration
 * of that moment, as a checkout would. From then on the id says it, also after a restart.
 */

import {
  attributesFiles,
  checkAttributes,
  hasConversions,
  makeTreeIndex,
  mattersEverywhere,
  type OwnersConfig,
  type OwnersGit,
  readOwnersConfig,
  type TreeIndex,
} from "../git/attributes.ts";
import type { BaseId } from "../git/base_id.ts";
import { CatFile, CollectingSink } from "../git/cat_file.ts";
import { conversionOf } from "../git/conversion.ts";
import { GitFetch } from "../git/fetch.ts";
import { makeFolder, removeIfExists, removeTree } from "../git/files.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import { GitError, runGit } from "../git/process.ts";
import { logger } from "../log.ts";
import { byteString, type HostPath } from "../path.ts";
import { ContextBuilder, ContextStore } from "../snapshot/contexts.ts";
import { changeOwner } from "../sys/mod.ts";
import type { Layout } from "./layout.ts";
import { ownersGitOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

export type ConvertedRepo = Pick<
  RepoRecord,
  "id" | "name" | "storeId" | "objectFormat"
>;

export interface RootOptions {
  readonly layout: Layout;
  readonly owners: OwnersGit;
  readonly config: OwnersConfig;
  readonly signal?: AbortSignal;
}

export interface Root {
  readonly treeId: BaseId;
  /** "none": nothing matters, whatever the files of the tree are called. */
  readonly conversion: RepoRecord["baseConversion"];
}

/** Repositories of which it was said that LFS is not there. */
const toldOfLfs = new Set<string>();

/** Attributes files of more bytes are not looked at: they may say anything. */
const ATTRIBUTES_BYTES_MAX = 1024 * 1024;

/** As git would read it for the owner now. Throws GitError. */
export async function readConversionConfig(
  owners: OwnersGit,
  signal?: AbortSignal,
): Promise<OwnersConfig> {
  const config = await readOwnersConfig(owners, signal);
  const lfs = config.commands.get("lfs") ?? "";
  if (!/^git[- ]lfs\b/.test(lfs) || await hasLfs(owners)) return config;
  // Configured, and not there: pointers, not a tree of files that cannot be read.
  const filters = new Set(config.filters);
  filters.delete("lfs");
  return { ...config, filters };
}

type Settings = Pick<RootOptions, "owners" | "config">;

/** What conversions of a repository depend on now, besides attributes. Throws GitError. */
export async function settingsOf(
  record: RepoRecord,
  layout: Layout,
  signal?: AbortSignal,
): Promise<Settings> {
  const owners = await ownersGitOf(record, layout);
  return { owners, config: await readConversionConfig(owners, signal) };
}

async function hasLfs({ owner, env }: OwnersGit): Promise<boolean> {
  try {
    await runGit(["lfs", "version"], { owner, env });
    return true;
  } catch (error) {
    if (!(error instanceof GitError)) throw error;
    return false;
  }
}

/**
 * Of a tree of which an index is at hand (a new user's git directory), and the attributes files
 * perhaps. Throws Failure, GitError.
 */
export async function rootOfIndex(
  repo: ConvertedRepo,
  tree: {
    readonly treeOid: Oid;
    readonly index: TreeIndex;
    readonly attributes: readonly Oid[] | null;
  },
  options: RootOptions,
): Promise<Root> {
  const { owners, config, signal } = options;
  const { treeOid, index } = tree;
  const files = tree.attributes ?? await attributesFiles(owners, index, signal);
  const words = await haveWords(repo, files, options);
  if (!words && !await mattersEverywhere(owners, config)) {
    return { treeId: treeOid, conversion: "none" };
  }
  const builder = new ContextBuilder();
  let pointers = 0;
  await checkAttributes(owners, index, (path, attributes) => {
    const conversion = conversionOf(path, attributes, config);
    if (conversion !== null) builder.add(path, conversion);
    if (attributes.filter === "lfs" && !config.filters.has("lfs")) pointers++;
  }, signal);
  tellOfLfs(repo, pointers);
  const treeId = await builder.rootIdOf(treeOid);
  if (builder.contexts.size > 0) await keep(repo, builder, options.layout);
  return { treeId, conversion: "some" };
}

/**
 * Of a tree that is to come beneath a work tree, and that the user's git has: as a checkout would
 * convert it now. `attributes`: attributes files that it has over the base. Throws Failure, GitError.
 */
export async function rootOfNext(
  record: RepoRecord,
  next: { readonly treeOid: Oid; readonly attributes: readonly Oid[] },
  { layout, signal, settings }: Pick<RootOptions, "layout" | "signal"> & {
    /** When they have been asked for already. */
    readonly settings?: Promise<Settings>;
  },
): Promise<Root> {
  const { treeOid, attributes } = next;
  const known = await (settings ?? settingsOf(record, layout, signal));
  const options = { layout, ...known, ...(signal === undefined ? {} : { signal }) };
  const plain = record.baseConversion === "none"
    ? await stillPlain(record, treeOid, attributes, options)
    : null;
  return plain ?? await rootOf(record, treeOid, options);
}

/** As rootOfIndex, with an index of our own. */
async function rootOf(
  repo: ConvertedRepo,
  treeOid: Oid,
  options: RootOptions,
): Promise<Root> {
  const { owners } = options;
  const { convertDir } = options.layout.repo(repo.id);
  const folder = `${convertDir}/trees`;
  await makeFolder(convertDir, 0o711);
  await makeFolder(folder, 0o700);
  if (owners.owner !== null) changeOwner(folder, owners.owner.uid, owners.owner.gid);
  const path = `${folder}/${crypto.randomUUID()}`;
  try {
    const index = await makeTreeIndex(owners, treeOid, path, options.signal);
    return await rootOfIndex(repo, { treeOid, index, attributes: null }, options);
  } finally {
    await removeIfExists(path);
  }
}

/** Of a tree after one of which nothing mattered: null when that may have changed. */
async function stillPlain(
  repo: ConvertedRepo,
  treeOid: Oid,
  attributes: readonly Oid[],
  options: RootOptions,
): Promise<Root | null> {
  if (await mattersEverywhere(options.owners, options.config)) return null;
  if (await haveWords(repo, attributes, options)) return null;
  return { treeId: treeOid, conversion: "none" };
}

async function keep(repo: ConvertedRepo, rows: ContextBuilder, layout: Layout): Promise<void> {
  const { contextsDir, contextsPath } = layout.repo(repo.id);
  await makeFolder(contextsDir, 0o700);
  const store = new ContextStore(contextsPath);
  try {
    await store.put(rows);
  } finally {
    store.close();
  }
}

function tellOfLfs({ id, name }: ConvertedRepo, pointers: number): void {
  if (pointers === 0 || toldOfLfs.has(id)) return;
  toldOfLfs.add(id);
  logger("base").warn("LFS files are shown as pointers: git lfs is not installed for the owner", {
    repo: name,
    files: pointers,
  });
}

/** Whether one of these attributes files matters; brings those that are not here. */
async function haveWords(
  repo: ConvertedRepo,
  oids: readonly Oid[],
  { layout, signal }: RootOptions,
): Promise<boolean> {
  if (oids.length === 0) return false;
  const reader = new CatFile(layout.repo(repo.id).viewDir, "contents");
  try {
    const texts = await readTexts(reader, oids);
    const missing = oids.filter((_, i) => texts[i] === null);
    if (missing.length > 0) {
      await fetchBlobs(repo, missing, layout, signal);
      texts.push(...await readTexts(reader, missing));
    }
    return texts.some((text) => text !== null && hasConversions(text));
  } finally {
    await reader.close();
  }
}

/** Null: not here. */
async function readTexts(reader: CatFile, oids: readonly Oid[]): Promise<(string | null)[]> {
  return await Promise.all(oids.map(async (oid) => {
    const sink = new CollectingSink();
    const info = await reader.request(oid, sink);
    if (info === null) return null;
    return info.sizeBytes > ATTRIBUTES_BYTES_MAX ? "filter" : byteString(sink.bytes);
  }));
}

async function fetchBlobs(
  { id, storeId, objectFormat }: { id: string; storeId: string; objectFormat: ObjectFormat },
  oids: readonly Oid[],
  layout: Layout,
  signal: AbortSignal | undefined,
): Promise<void> {
  const store = layout.store(storeId);
  const stagingDir = `${store.attributesDir}/${id}` as HostPath;
  await makeFolder(store.attributesDir, 0o700);
  await makeFolder(stagingDir, 0o700);
  try {
    const fetch = new GitFetch({ storeGitDir: store.gitDir, stagingDir, objectFormat });
    await fetch.fetchBlobs(oids, signal === undefined ? {} : { signal });
  } finally {
    await removeTree(stagingDir);
  }
}
