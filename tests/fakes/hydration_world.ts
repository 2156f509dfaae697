/**
 * A hydrator with real git processes that look into a store, a remote that answers when and as far
 * as a test says, and wants with what was said to them.
 */

import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import type { Fetched, FetchOptions, ObjectSource } from "../../src/git/fetch.ts";
import { type Oid, oid } from "../../src/git/oid.ts";
import { PackDirectory } from "../../src/git/pack_directory.ts";
import { PackReader } from "../../src/git/pack_reader.ts";
import { createView } from "../../src/git/view.ts";
import { Hydrator } from "../../src/hydrate/hydrator.ts";
import type { HydratorEvent, Need } from "../../src/hydrate/messages.ts";
import { SpoolDirectory } from "../../src/hydrate/spool.ts";
import type { HostPath } from "../../src/path.ts";
import { BaseStore } from "../../src/snapshot/store.ts";
import { objectOid } from "../support/git_objects.ts";
import { concat, run, tempDir, waitFor } from "../support/run.ts";
import { fakeOid, rawTree } from "./fake_objects.ts";

/** What is said beside what arrives: default nothing. */
type Said = Partial<Pick<Fetched, "lost" | "left">>;
type Outcome = (call: Call) => void | Said | Promise<void | Said>;

/** One request to the source. */
export interface Call {
  readonly commitOid: Oid | null;
  readonly oids: readonly Oid[];
  readonly options: FetchOptions;
  /** These are in the store from now on. */
  arrive(oids: readonly Oid[]): void;
}

export interface Blob {
  readonly oid: Oid;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Writes loose objects into a store, when and as far as `outcome` says: all at once by default. */
export class FakeSource implements ObjectSource {
  readonly calls: Call[] = [];
  readonly asked = new Map<Oid, number>();
  outcome: Outcome = (call) => call.arrive(call.oids);
  active = 0;
  mostActive = 0;
  /** Oids in two requests at the same time. */
  readonly twice: Oid[] = [];
  readonly #active = new Set<Oid>();
  readonly #commits = new Map<Oid, readonly Oid[]>();
  readonly #arrive: (oid: Oid) => void;

  constructor(arrive: (oid: Oid) => void) {
    this.#arrive = arrive;
  }

  /** Packs of an earlier hydrator, and what is in them. */
  readonly packed = new Map<string, readonly Oid[]>();
  /** Packs that were looked into. */
  readonly opened: string[] = [];

  packs(): Promise<string[]> {
    return Promise.resolve([...this.packed.keys()]);
  }

  objectsOf(pack: string): Promise<Oid[]> {
    this.opened.push(pack);
    return Promise.resolve([...this.packed.get(pack) ?? []]);
  }

  /** What a commit's tree holds. */
  commit(commitOid: Oid, oids: readonly Oid[]): void {
    this.#commits.set(commitOid, oids);
  }

  fetchBlobs(oids: readonly Oid[], options: FetchOptions = {}): Promise<Fetched> {
    return this.#fetch(null, oids, options);
  }

  fetchCommit(commitOid: Oid, options: FetchOptions = {}): Promise<Fetched> {
    return this.#fetch(commitOid, this.#commits.get(commitOid) as readonly Oid[], options);
  }

  async #fetch(
    commitOid: Oid | null,
    oids: readonly Oid[],
    options: FetchOptions,
  ): Promise<Fetched> {
    const arrive = (some: readonly Oid[]) => some.forEach(this.#arrive);
    const call = { commitOid, oids: [...oids], options, arrive };
    this.calls.push(call);
    this.mostActive = Math.max(this.mostActive, ++this.active);
    for (const each of oids) {
      this.asked.set(each, (this.asked.get(each) ?? 0) + 1);
      if (this.#active.has(each)) this.twice.push(each);
      this.#active.add(each);
    }
    let said: Said;
    try {
      said = await this.outcome(call) ?? {};
    } finally {
      this.active--;
      for (const each of oids) this.#active.delete(each);
    }
    return {
      packBytes: 10 * oids.length,
      packs: [`pack-${this.calls.length}`],
      lost: [],
      left: [],
      arrived: false,
      ...said,
    };
  }
}

export interface Gate {
  readonly call: Call;
  open(): void;
  fail(message: string): void;
}

/** Each fetch waits for its gate; what the test has put into the store before is there then. */
export function gates(source: FakeSource) {
  const waiting: Gate[] = [];
  source.outcome = (call) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (message: string) => reject(new Error(message));
    waiting.push({ call, open: resolve, fail });
    return promise;
  };
  return {
    waiting,
    next: async (): Promise<Gate> => {
      await waitFor(() => waiting.length > 0, "fetch");
      return waiting.shift() as Gate;
    },
  };
}

/** Lets a gated fetch end well, with all it was asked for. */
export function arriveAndOpen({ call, open }: Gate): void {
  call.arrive(call.oids);
  open();
}

const ROOT = fakeOid(1);
export const COMMIT = fakeOid(2);
export const OTHER_ROOT = fakeOid(3);
export const OTHER_COMMIT = fakeOid(4);
export const ABSENT = "ab".repeat(20) as Oid;
const treeOid = (dir: number) => fakeOid(0x1000 + dir);

class CountingBase extends BaseStore {
  /** How often lookahead (or readahead) began to look at some blobs. */
  looked = 0;

  override sizes(oids: readonly Oid[]): Map<Oid, number> {
    this.looked++;
    return super.sizes(oids);
  }
}

export function smallBytes(dir: number, file: number): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${dir}/${file}\n`.repeat(1 + (dir + file) % 5));
}

export interface WorldOptions {
  readonly dirs?: number;
  readonly files?: number;
  readonly concurrency?: number;
  readonly mounts?: readonly number[];
  /** True unless told. False: siblings are looked at before they are fetched. */
  readonly partial?: boolean;
  readonly content?: (dir: number, file: number) => Uint8Array<ArrayBuffer>;
  /** Packs that are in the store from the start: directory and file of each of its blobs. */
  readonly packs?: Readonly<Record<string, readonly (readonly [dir: number, file: number])[]>>;
  /** Those of them that are known to be sized. */
  readonly sizedPacks?: readonly string[];
  /** Directories that the other commit has, which is that of mount 9. */
  readonly otherDirs?: readonly number[];
}

/** A tree of `dirs` directories with `files` blobs each, none of which is in the store. */
export async function world(options: WorldOptions = {}) {
  const { dirs = 6, files = 3, concurrency = 2, mounts = [1], content = smallBytes } = options;
  const dir = await tempDir();
  const objects = dir.at("store", "objects");
  await Deno.mkdir(objects, { recursive: true });
  const base = new CountingBase(dir.at("base.db") as HostPath);

  const contents = new Map<Oid, Uint8Array<ArrayBuffer>>();
  const blobs: Blob[][] = [];
  const trees: [Oid, Uint8Array][] = [];
  const directoryEntry = (_: unknown, at: number) => ({
    mode: "40000",
    name: `d${String(at).padStart(3, "0")}`,
    oid: treeOid(at),
  });
  for (let i = 0; i < dirs; i++) {
    const own = Array.from({ length: files }, (_, file) => {
      const bytes = content(i, file);
      return { oid: oid(objectOid("blob", bytes, "sha1")), bytes };
    });
    for (const { oid, bytes } of own) contents.set(oid, bytes);
    blobs.push(own);
    const entries = own.map(({ oid }, file) => ({ mode: "100644", name: `f${file}`, oid }));
    trees.push([treeOid(i), rawTree(entries)]);
  }
  const all = Array.from({ length: dirs }, directoryEntry);
  const others = (options.otherDirs ?? []).map((at) => directoryEntry(null, at));
  trees.push([ROOT, rawTree(all)], [OTHER_ROOT, rawTree(others)]);
  base.putTrees(trees);
  base.markIndexed(ROOT);
  base.markIndexed(OTHER_ROOT);

  const arrive = (blobOid: Oid) => {
    const bytes = contents.get(blobOid) as Uint8Array;
    Deno.mkdirSync(`${objects}/${blobOid.slice(0, 2)}`, { recursive: true });
    const path = `${objects}/${blobOid.slice(0, 2)}/${blobOid.slice(2)}`;
    const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
    Deno.writeFileSync(`${path}.new`, deflateSync(concat([header, bytes]), { level: 1 }));
    Deno.renameSync(`${path}.new`, path);
  };
  const lose = (blobOid: Oid) =>
    Deno.removeSync(`${objects}/${blobOid.slice(0, 2)}/${blobOid.slice(2)}`);
  const source = new FakeSource(arrive);
  const oidsOf = (some: readonly Blob[][]) => some.flat().map(({ oid }) => oid);
  source.commit(COMMIT, oidsOf(blobs));
  source.commit(OTHER_COMMIT, oidsOf((options.otherDirs ?? []).map((at) => blobs[at] as Blob[])));

  for (const [pack, files] of Object.entries(options.packs ?? {})) {
    const oids = files.map(([at, file]) => (blobs[at]?.[file] as Blob).oid);
    oids.forEach(arrive);
    source.packed.set(pack, [...oids, treeOid(0)]);
  }
  base.putSizedPacks(options.sizedPacks ?? []);

  const events: HydratorEvent[] = [];
  const emit = (event: HydratorEvent) => {
    events.push(event);
  };
  const hydrator = new Hydrator({
    base,
    objectFormat: "sha1",
    partial: options.partial ?? true,
    source,
    packs: new PackReader(new PackDirectory(`${objects}/pack`), "sha1"),
    spools: new SpoolDirectory(dir.at("blobs") as HostPath, emit),
    concurrency,
    emit,
  });
  const viewOf = (mountId: number) => dir.at(`view${mountId}`);
  for (const mountId of mounts) {
    const viewDir = viewOf(mountId);
    await createView(viewDir, { objectFormat: "sha1", objectDirs: [objects] });
    hydrator.attach({
      kind: "attach",
      mountId,
      viewDir,
      commitOid: mountId === 9 ? OTHER_COMMIT : COMMIT,
      rootTreeOid: mountId === 9 ? OTHER_ROOT : ROOT,
    });
  }

  const blob = (at: number, file: number) => blobs[at]?.[file] as Blob;
  const wantOid = (blobOid: Oid, need: Need, at: number | null, mountId = 1, read = 0): Asked => {
    const from = events.length;
    const root = mountId === 9 ? OTHER_ROOT : ROOT;
    const own = at === null ? [] : [root, treeOid(at)];
    hydrator.want({ kind: "want", mountId, oid: blobOid, need, trees: own, read });
    const answer = () => answerOf(events, from, mountId, blobOid, need);
    return {
      answer,
      done: async () =>
        (await waitFor(answer, `${need} of ${blobOid} in mount ${mountId}`, {
          pollMs: 2,
        })) as Answer,
    };
  };
  return {
    dir,
    base,
    source,
    hydrator,
    events,
    blobs,
    blob,
    arrive,
    lose,
    viewOf,
    oidsOf,
    wantOid,
    want: (at: number, file: number, need: Need, mountId = 1) =>
      wantOid(blob(at, file).oid, need, at, mountId),
    of: <K extends HydratorEvent["kind"]>(kind: K) =>
      events.filter((event): event is HydratorEvent & { kind: K } => event.kind === kind),
    async [Symbol.asyncDispose]() {
      await Promise.all(mounts.map((mountId) => hydrator.detach(mountId)));
      base.close();
      await dir.remove();
    },
  };
}

export type World = Awaited<ReturnType<typeof world>>;

export type Answer =
  | { readonly kind: "size"; readonly sizeBytes: number }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "unavailable"; readonly cause: string };

export interface Asked {
  answer(): Answer | null;
  done(): Promise<Answer>;
}

export function answerOf(
  events: readonly HydratorEvent[],
  from: number,
  mountId: number,
  blobOid: Oid,
  need: Need,
): Answer | null {
  for (const event of events.slice(from)) {
    if (event.kind === "unavailable") {
      if (event.mountId !== mountId || event.oid !== blobOid || event.need !== need) continue;
      return { kind: "unavailable", cause: event.cause };
    }
    if (need === "size") {
      if (event.kind !== "sizes") continue;
      const found = event.sizes.find(([each]) => each === blobOid);
      if (found !== undefined) return { kind: "size", sizeBytes: found[1] };
    } else if (event.kind === "contents" && event.mountId === mountId) {
      if (event.oid === blobOid) return { kind: "bytes", bytes: new Uint8Array(event.bytes) };
    } else if (event.kind === "spool" && event.mountId === mountId && event.oid === blobOid) {
      if (event.availableBytes === event.sizeBytes) return { kind: "file", path: event.path };
    }
  }
  return null;
}

export const sizeOf = ({ bytes }: Blob): Answer => ({ kind: "size", sizeBytes: bytes.length });

export function assertBytes(answer: Answer, { bytes }: Blob): void {
  assert.equal(answer.kind, "bytes");
  assert.deepEqual(new Uint8Array(answer.kind === "bytes" ? answer.bytes : []), bytes);
}

/** git processes that read in a view. By a shell: Deno keeps /proc from us. */
export async function pidsOf(viewDir: string): Promise<number[]> {
  const script = `grep -lzxsF -- "GIT_DIR=$1" /proc/[0-9]*/environ | cut -d / -f 3`;
  const { stdout } = await run("sh", ["-c", script, "sh", viewDir]);
  return stdout.split("\n").filter((line) => line !== "").map(Number);
}

/** The only process of a mount, which has been asked for nothing but sizes, or contents. */
export async function onlyProcess(w: World, mountId: number): Promise<number> {
  const pids = await pidsOf(w.viewOf(mountId));
  assert.equal(pids.length, 1);
  return pids[0] as number;
}

/** Starts the checker of a mount, which has no process yet. */
export async function startChecker(w: World, mountId: number): Promise<number> {
  w.arrive(w.blob(0, 0).oid);
  await w.want(0, 0, "size", mountId).done();
  return await onlyProcess(w, mountId);
}

/** Starts the checker of a mount and stops it: it answers nothing until it goes on. */
export async function stopChecker(w: World, mountId: number): Promise<number> {
  const pid = await startChecker(w, mountId);
  Deno.kill(pid, "SIGSTOP");
  return pid;
}
