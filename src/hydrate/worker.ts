/** Entry of the hydrator worker: one per store. Runs git; no ffi; its store's folder only. */

import { setLogLevel, setupLog } from "../log.ts";
import { GitFetch } from "../git/fetch.ts";
import { PackDirectory } from "../git/pack_directory.ts";
import { PackReader } from "../git/pack_reader.ts";
import { readStoreConfig } from "../git/store.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import { Hydrator } from "./hydrator.ts";
import type { HydratorEvent, HydratorRequest, StartHydrator } from "./messages.ts";
import { SpoolDirectory } from "./spool.ts";

declare const self: {
  onmessage: ((event: MessageEvent<HydratorRequest>) => void) | null;
  postMessage(message: HydratorEvent, transfer: Transferable[]): void;
};

function emit(event: HydratorEvent, transfer: Transferable[] = []): void {
  self.postMessage(event, transfer);
}

async function start(request: StartHydrator): Promise<Hydrator> {
  const { partial } = await readStoreConfig(request.storeGitDir);
  return new Hydrator({
    base: new BaseStore(request.basePath as HostPath),
    objectFormat: request.objectFormat,
    partial,
    source: new GitFetch({
      storeGitDir: request.storeGitDir as HostPath,
      stagingDir: request.stagingDir as HostPath,
      objectFormat: request.objectFormat,
    }),
    packs: new PackReader(
      new PackDirectory(`${request.storeGitDir}/objects/pack`),
      request.objectFormat,
    ),
    spools: new SpoolDirectory(request.blobsDir as HostPath, emit),
    concurrency: request.concurrency,
    emit,
  });
}

/** Requests wait for it, in their order. Its failure is this worker's. */
let hydrator: Promise<Hydrator> | null = null;

async function handle(request: HydratorRequest): Promise<void> {
  if (request.kind === "log-level") return setLogLevel(request.level);
  if (request.kind === "start") {
    setLogLevel(request.logLevel);
    hydrator = start(request);
    await hydrator;
    return;
  }
  const running = await hydrator;
  switch (request.kind) {
    case "attach":
      running?.attach(request);
      break;
    case "move":
      running?.move(request);
      break;
    case "detach":
      await running?.detach(request.mountId);
      break;
    case "want":
      running?.want(request);
      break;
    case "ask-load":
      if (running !== null) emit({ kind: "load", id: request.id, ...running.load });
      break;
    case "stop":
      await running?.stop();
      emit({ kind: "stopped" });
      break;
  }
}

setupLog();
self.onmessage = ({ data }) => {
  handle(data);
};
