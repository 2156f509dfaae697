/**
 * Reads trees that may be in two places: where we read, and in the user's git directory, which is
 * hostile input and is read as the owner.
 */

import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { turn } from "../promises.ts";
import { CatFile, CollectingSink, type ObjectInfo } from "./cat_file.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import { PackDirectory } from "./pack_directory.ts";
import { PackReader } from "./pack_reader.ts";
import { parseTree, type TreeEntry } from "./tree.ts";
import type { UserGitDir } from "./user_git_dir.ts";

/** Some 100,000 entries. */
const TREE_BYTES_MAX = 8 * 1024 ** 2;

export interface TreeReaderOptions {
  readonly dir: UserGitDir;
  readonly viewDir: HostPath;
  /** The view's alternate. */
  readonly storeGitDir: HostPath;
  readonly objectFormat: ObjectFormat;
}

/**
 * Trees from the view and, where it has them not, from the user's git directory. A process of git
 * is started only for the latter, and for what the packs do not give in this thread.
 */
export class TreeReader {
  readonly #format: ObjectFormat;
  readonly #packs: PackReader;
  readonly #view: CatFile;
  readonly #user: CatFile;

  constructor({ dir, viewDir, storeGitDir, objectFormat }: TreeReaderOptions) {
    const { gitDir, owner, workTree } = dir;
    const folders = [viewDir, storeGitDir].map((path) => `${path}/objects/pack`);
    this.#format = objectFormat;
    this.#packs = new PackReader(new PackDirectory(...folders), objectFormat);
    this.#view = new CatFile(viewDir, "contents");
    this.#user = new CatFile(gitDir as HostPath, "contents", { owner, workTree });
  }

  /** Null for null and, when only `ours` are looked at, for what is not there. Rejects otherwise. */
  async read(
    oids: readonly (Oid | null)[],
    { ours }: { readonly ours: boolean },
  ): Promise<(readonly TreeEntry[] | null)[]> {
    return await Promise.all(oids.map(async (oid) => {
      if (oid === null) return null;
      const raw = this.#packs.read(oid, "tree", TREE_BYTES_MAX) ??
        (this.#packs.has(oid) ? await this.#readIn(this.#view, oid) : null);
      if (raw !== null || ours) return raw === null ? null : this.#parse(raw);
      const theirs = await this.#readIn(this.#user, oid);
      if (theirs === null) throw new Error(`${oid} is not there`);
      return this.#parse(theirs);
    }));
  }

  async close(): Promise<void> {
    this.#packs.close();
    await Promise.all([this.#view.close(), this.#user.close()]);
  }

  #parse(raw: Uint8Array): readonly TreeEntry[] {
    return parseTree(raw, this.#format).entries;
  }

  async #readIn(git: CatFile, oid: Oid): Promise<Uint8Array | null> {
    const sink = new TreeSink();
    return await git.request(oid, sink) === null ? null : sink.bytes;
  }
}

/** Two trees to compare; null: nothing is there. */
export interface TreePair {
  readonly from: Oid | null;
  readonly to: Oid | null;
}

export interface EntryDifference<Pair> {
  readonly pair: Pair;
  /** Null: it is not in that tree. */
  readonly before: TreeEntry | null;
  readonly after: TreeEntry | null;
}

/** Pairs that are read at once. */
const PAIRS_AT_ONCE = 64;

/**
 * The entries in which the pairs differ, pair by pair; whoever takes them puts those of directories
 * into `queue`. `onlyOurs`: an old tree that is not where we read is taken for none. Rejects for any
 * other that is nowhere.
 */
export async function* differences<Pair extends TreePair>(
  trees: TreeReader,
  queue: Pair[],
  { onlyOurs }: { readonly onlyOurs: boolean },
): AsyncGenerator<EntryDifference<Pair>> {
  let others = false;
  while (queue.length > 0) {
    const batch = queue.splice(0, PAIRS_AT_ONCE);
    // What the packs give holds this thread: some ms for so many.
    if (others) await turn();
    others = true;
    const [olds, news] = await Promise.all([
      trees.read(batch.map((pair) => pair.from), { ours: onlyOurs }),
      trees.read(batch.map((pair) => pair.to), { ours: false }),
    ]);
    for (const [i, pair] of batch.entries()) {
      const left = new Map(olds[i]?.map((entry) => [entry.name, entry]));
      for (const after of news[i] ?? []) {
        const before = left.get(after.name) ?? null;
        left.delete(after.name);
        if (before?.oid === after.oid && before.kind === after.kind) continue;
        yield { pair, before, after };
      }
      for (const before of left.values()) yield { pair, before, after: null };
    }
  }
}

export function treeOf(entry: TreeEntry | null): Oid | null {
  return entry?.kind === "directory" ? entry.oid : null;
}

/** Refuses what is no tree, or one that nobody would wait for. */
class TreeSink extends CollectingSink {
  override start(info: ObjectInfo): void {
    if (info.type !== "tree" || info.sizeBytes > TREE_BYTES_MAX) {
      throw new Failure("failed", "Cannot read the trees of HEAD: one is none, or too large");
    }
    super.start(info);
  }
}
