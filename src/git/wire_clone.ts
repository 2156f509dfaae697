/**
 * The first fetch of a store by our own client: refs and pack, two requests on one connection, with
 * `git index-pack` started while the first is on its way. It makes what `git clone --bare
 * --single-branch --no-tags --filter=blob:none --depth` makes of a branch; whatever is not that (a
 * tag, a detached HEAD, another object format) is left to git.
 */

import { byteStringOfText } from "../path.ts";
import { makeFolder, writeFileAtomically } from "./files.ts";
import type { Oid } from "./oid.ts";
import { CorruptPack } from "./pack_index.ts";
import { ProtocolError } from "./pkt_line.ts";
import { spawnGit } from "./process.ts";
import type { RemoteRef } from "./protocol_v2.ts";
import type { StoreRequest } from "./store.ts";
import { reasonForGit, Wire, type WireOptions } from "./wire.ts";

export interface ClonedBranch {
  /** `refs/heads/main`. */
  readonly ref: string;
  readonly commitOid: Oid;
}

/** A request to a server nearby is on its way after so long. */
const LEAVING_MS = 8;
/** Names that git takes in any repository, and that are one byte a letter. */
const PLAIN_REF = /^refs\/heads\/[\x21-\x7e]+$/;

/**
 * Makes `gitDir`, without a configuration of its own. Throws ProtocolError or CorruptPack when git is
 * to do it, GitError, or the signal's reason; what is in `gitDir` then is to be removed.
 */
export async function cloneByWire(request: StoreRequest, gitDir: string): Promise<ClonedBranch> {
  const { remoteUrl, branch, signal, clock } = request;
  const reason = await reasonForGit(remoteUrl);
  if (reason !== null) throw new ProtocolError(reason);
  const wire = new Wire(remoteUrl);
  const options = { login: request.credentials, signal, clock };
  const asked = wire.refs([branch === null ? "HEAD" : fullName(branch)], options);
  // Awaited below, after what can be done meanwhile.
  asked.catch(() => {});
  // It leaves before this thread is held, for which a turn or two are not enough.
  await new Promise((resolve) => setTimeout(resolve, LEAVING_MS));
  await makeSkeleton(gitDir);
  const indexer = new IndexPack(gitDir);
  try {
    request.onAsked?.();
    const tip = tipOf(await asked, branch);
    const shallow = await receive(wire, tip.commitOid, indexer, { ...options, request });
    await writeFiles(gitDir, tip, shallow, await indexer.end());
    return tip;
  } finally {
    indexer.stop();
  }
}

function fullName(branch: string): string {
  return branch.startsWith("refs/") ? branch : `refs/heads/${branch}`;
}

/** Throws ProtocolError when it is no branch. */
function tipOf(refs: readonly RemoteRef[], branch: string | null): ClonedBranch {
  const name = branch === null ? "HEAD" : byteStringOfText(fullName(branch));
  const found = refs.find((each) => each.name === name);
  const ref = branch === null ? found?.target ?? "" : name;
  if (found === undefined || !PLAIN_REF.test(ref)) throw new ProtocolError("no ordinary branch");
  return { ref, commitOid: found.oid };
}

/** Passes the pack on; the content of `shallow`. */
async function receive(
  wire: Wire,
  commitOid: Oid,
  indexer: IndexPack,
  options: WireOptions & { readonly request: StoreRequest },
): Promise<string> {
  const { request } = options;
  const { shallow, pack } = await wire.fetch({
    wants: [commitOid],
    depth: request.depth ?? 1,
    blobless: true,
    objectFormat: "sha1",
  }, options);
  let bytes = 0;
  for await (const part of pack) {
    await indexer.write(part);
    bytes += part.length;
    const text = `Receiving objects: ${Math.round(bytes / 1024)} KiB`;
    request.onProgress?.({ step: "Receiving objects", percent: null, text });
  }
  return shallow.map((oid) => `${oid}\n`).join("");
}

/** What git needs to take it for a repository. */
async function makeSkeleton(gitDir: string): Promise<void> {
  for (const folder of ["", "/objects", "/objects/info", "/objects/pack", "/refs"]) {
    await makeFolder(gitDir + folder, 0o755);
  }
  await writeFileAtomically(`${gitDir}/HEAD`, "ref: refs/heads/none\n", 0o644);
}

async function writeFiles(
  gitDir: string,
  { ref, commitOid }: ClonedBranch,
  shallow: string,
  pack: string,
): Promise<void> {
  const packedRefs = `# pack-refs with: peeled fully-peeled sorted \n${commitOid} ${ref}\n`;
  await writeFileAtomically(`${gitDir}/objects/pack/${pack}.promisor`, "", 0o444);
  if (shallow !== "") await writeFileAtomically(`${gitDir}/shallow`, shallow, 0o644);
  await writeFileAtomically(`${gitDir}/packed-refs`, packedRefs, 0o644);
  await writeFileAtomically(`${gitDir}/HEAD`, `ref: ${ref}\n`, 0o644);
}

/** `git index-pack --stdin`, which checks what it is given. */
class IndexPack {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: Promise<string>;
  #running = true;

  constructor(gitDir: string) {
    this.#child = spawnGit(["index-pack", "--stdin"], { gitDir, stdin: "piped", stderr: "null" });
    this.#writer = this.#child.stdin.getWriter();
    this.#output = new Response(this.#child.stdout).text();
    this.#output.catch(() => {});
  }

  /** Throws CorruptPack when it has ended. */
  async write(bytes: Uint8Array): Promise<void> {
    try {
      // The bytes are good until the next are read.
      await this.#writer.write(bytes);
    } catch (error) {
      throw new CorruptPack("git cannot index the pack", { cause: error });
    }
  }

  /** `pack-<hash>`. Throws CorruptPack. */
  async end(): Promise<string> {
    await this.#writer.close().catch(() => {});
    const [{ success }, text] = await Promise.all([this.#child.status, this.#output]);
    this.#running = false;
    const hash = /^pack\t([0-9a-f]+)$/m.exec(text)?.[1];
    if (!success || hash === undefined) throw new CorruptPack("git cannot index the pack");
    return `pack-${hash}`;
  }

  /** Ends it if it runs. */
  stop(): void {
    if (!this.#running) return;
    this.#running = false;
    this.#writer.abort().catch(() => {});
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended meanwhile.
    }
  }
}
