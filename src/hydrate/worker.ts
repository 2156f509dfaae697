/** Entry of the hydrator worker: one per store. Runs git; no ffi; its store's folder only. */

import { GitFetch } from "../git/fetch.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import { Hydrator } from "./hydrator.ts";
import type { HydratorEvent, HydratorRequest, StartHydrator } from "./messages.ts";
import { SpoolDirectory } from "./spool.ts";

declare const self: {
  onmessage: ((event: MessageEvent<HydratorRequest>) => void) | null;
  postMessage(message: HydratorEvent, transfer: Transferable[]): void;
};

let hydrator: Hydrator | null = null;

function start(request: StartHydrator): Hydrator {
  const emit = (event: HydratorEvent, transfer: Transferable[] = []) =>
    self.postMessage(event, transfer);
  return new Hydrator({
    base: new BaseStore(request.basePath as HostPath),
    objectFormat: request.objectFormat,
    source: new GitFetch({
      storeGitDir: request.storeGitDir as HostPath,
      stagingDir: request.stagingDir as HostPath,
      objectFormat: request.objectFormat,
    }),
    spools: new SpoolDirectory(request.blobsDir as HostPath, emit),
    concurrency: request.concurrency,
    emit,
  });
}

self.onmessage = ({ data: request }) => {
  switch (request.kind) {
    case "start":
      hydrator = start(request);
      break;
    case "attach":
      hydrator?.attach(request);
      break;
    case "detach":
      hydrator?.detach(request.mountId);
      break;
    case "read-ahead":
      hydrator?.readAhead(request.mountId);
      break;
    case "want":
      hydrator?.want(request);
      break;
  }
};
