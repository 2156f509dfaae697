/** What the indexer worker is asked and what it answers. Plain data: it crosses threads. */

import type { Oid } from "../git/oid.ts";

export interface StartIndexer {
  readonly kind: "start";
  readonly basePath: string;
  readonly objectFormat: "sha1" | "sha256";
}

/** Index everything below a root tree, reading objects in `viewDir`. */
export interface IndexTree {
  readonly kind: "index";
  readonly viewDir: string;
  readonly rootTreeOid: Oid;
}

/** These trees, which are all that one root has and another has not. */
export interface LoadTrees {
  readonly kind: "load";
  readonly viewDir: string;
  readonly treeOids: readonly Oid[];
  readonly fromTreeOid: Oid;
  readonly rootTreeOid: Oid;
}

/** One tree, before all others: somebody waits. */
export interface WantTree {
  readonly kind: "tree";
  readonly mountId: number;
  readonly viewDir: string;
  readonly treeOid: Oid;
}

/** Sizes to keep. */
export interface KeepSizes {
  readonly kind: "sizes";
  readonly sizes: readonly (readonly [Oid, number])[];
}

/** The sizes of all blobs of these packs were sent before. */
export interface KeepSizedPacks {
  readonly kind: "sized-packs";
  readonly names: readonly string[];
}

/** Nobody asks for objects of this view any more. */
export interface ForgetView {
  readonly kind: "forget-view";
  readonly viewDir: string;
}

export type IndexerRequest =
  | StartIndexer
  | IndexTree
  | LoadTrees
  | WantTree
  | KeepSizes
  | KeepSizedPacks
  | ForgetView;

export interface TreeReady {
  readonly kind: "tree";
  readonly mountId: number;
  readonly treeOid: Oid;
  /** The raw git tree object; null with a cause when it cannot be had. */
  readonly raw: Uint8Array<ArrayBuffer> | null;
  readonly cause: string | null;
}

export interface Indexed {
  readonly kind: "indexed";
  readonly rootTreeOid: Oid;
  readonly trees: number;
  readonly durationMs: number;
  readonly error: string | null;
}

/** The answer to LoadTrees. */
export interface Loaded {
  readonly kind: "loaded";
  readonly viewDir: string;
  readonly rootTreeOid: Oid;
  readonly error: string | null;
}

/** Sizes could not be kept (a full disk): they are asked for again one day. */
export interface SizesLost {
  readonly kind: "sizes-lost";
  readonly cause: string;
}

export type IndexerEvent = TreeReady | Indexed | Loaded | SizesLost;
