/** Entry of the indexer worker: one per store. No ffi, no net; reads and writes its store only. */

import { messageOf } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { Indexer } from "./indexer.ts";
import type { IndexerRequest } from "./messages.ts";
import { BaseStore } from "./store.ts";

declare const self: {
  onmessage: ((event: MessageEvent<IndexerRequest>) => void) | null;
  postMessage(message: unknown, transfer: Transferable[]): void;
};

let base: BaseStore | null = null;
let indexer: Indexer | null = null;
/** Sizes could not be kept: which packs they were of is not known. */
let sizesLost = false;

self.onmessage = ({ data: request }) => {
  switch (request.kind) {
    case "start":
      base = new BaseStore(request.basePath as HostPath);
      indexer = new Indexer(
        base,
        request.objectFormat,
        (event, transfer) => self.postMessage(event, transfer),
      );
      break;
    case "index":
      indexer?.index(request);
      break;
    case "load":
      indexer?.load(request);
      break;
    case "tree":
      indexer?.want(request);
      break;
    case "forget-view":
      indexer?.forgetView(request.viewDir as HostPath);
      break;
    case "sizes":
      keep(() => base?.putSizes(request.sizes));
      break;
    case "sized-packs":
      if (!sizesLost) keep(() => base?.putSizedPacks(request.names));
      break;
  }
};

function keep(write: () => void): void {
  try {
    write();
  } catch (error) {
    sizesLost = true;
    self.postMessage({ kind: "sizes-lost", cause: messageOf(error) }, []);
  }
}
