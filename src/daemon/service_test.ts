/** The verbs on real repositories; what is mounted is only written down. */

import assert from "node:assert/strict";
import { startGitServer } from "../../tests/support/git_server.ts";
import type { Params } from "../control/api.ts";
import { Failure } from "../failure.ts";
import { fileUrlOf } from "../git/remote_url.ts";
import { type Ground, onGround } from "../repo/testing.ts";
import { HistoryTasks } from "./history_tasks.ts";
import { RefreshTasks } from "./refresh_tasks.ts";
import { type MountTable, Service } from "./service.ts";

const CONTEXT = { signal: new AbortController().signal, onProgress: () => {} };

class FakeMounts implements MountTable {
  readonly mounted = new Set<string>();
  /** Thrown by the next mount. */
  failure: Error | null = null;

  mount({ id }: { id: string }): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure);
    this.mounted.add(id);
    this.placeholders.delete(id);
    return Promise.resolve();
  }

  unmount(repoId: string): Promise<void> {
    this.mounted.delete(repoId);
    this.placeholders.delete(repoId);
    return Promise.resolve();
  }

  requestCount(): number | null {
    return null;
  }

  isMounted(repoId: string): boolean {
    return this.mounted.has(repoId) || this.placeholders.has(repoId);
  }

  readonly placeholders = new Map<string, "waiting" | "failed">();

  isPlaceholder(repoId: string): boolean {
    return this.placeholders.has(repoId);
  }

  mountPlaceholder({ id }: { id: string }): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure);
    this.placeholders.set(id, "waiting");
    return Promise.resolve();
  }

  setGate(repoId: string, state: "waiting" | "failed"): void {
    if (this.placeholders.has(repoId)) this.placeholders.set(repoId, state);
  }

  expect(): () => void {
    return () => {};
  }

  loadTrees(): Promise<void> {
    return Promise.resolve();
  }

  baseMoved(): void {}

  switchTo(): Promise<never> {
    return Promise.reject(new Error("not here"));
  }
}

interface World {
  readonly ground: Ground;
  readonly mounts: FakeMounts;
  readonly service: Service;
  mount(url: string, dir: string, params?: Partial<Params<"mount">>): ReturnType<Service["mount"]>;
  remove(name: string): Promise<unknown>;
  exists(path: string): Promise<boolean>;
}

async function withService(fn: (world: World) => Promise<void>): Promise<void> {
  await onGround(async (ground) => {
    const { layout, registry, dir } = ground;
    const mounts = new FakeMounts();
    const history = new HistoryTasks({ layout, registry });
    const refresh = new RefreshTasks({
      layout,
      registry,
      isMounted: (repoId) => mounts.isMounted(repoId),
    });
    const service = new Service({
      layout,
      registry,
      live: {
        mounts,
        history,
        refresh,
        settle: () => Promise.resolve(),
        checkRights: () => {},
        stop: () => {},
      },
      mountRoot: null,
      version: "test",
    });
    try {
      await fn({
        ground,
        mounts,
        service,
        mount: (url, name, params = {}) =>
          service.mount({
            url,
            dir: `${dir}/${name}`,
            name: null,
            branch: null,
            depth: null,
            requiredCommit: null,
            tokenFile: null,
            readOnly: false,
            uid: Deno.uid() as number,
            gid: Deno.gid() as number,
            xattrs: false,
            gitDir: null,
            preparedGitDir: false,
            singleBranch: false,
            ownerGiven: false,
            wait: "tree",
            ...params,
          }, CONTEXT),
        remove: (name) =>
          service["remove-repo"](
            { repo: { by: "name", name }, force: false, dryRun: false },
            CONTEXT,
          ),
        exists: (name) => Deno.lstat(`${dir}/${name}`).then(() => true, () => false),
      });
    } finally {
      await history.stopAll();
    }
  });
}

Deno.test("remove-repo removes the folders that afs made, and no other", async () => {
  await withService(async ({ ground, service, mounts, mount, remove, exists }) => {
    const url = fileUrlOf(await ground.makeRemote());
    await mount(url, "made/by/afs");
    await Deno.mkdir(`${ground.dir}/before`);
    await mount(url, "before");
    await Deno.mkdir(`${ground.dir}/half`);
    await mount(url, "half/made");
    for (const name of ["afs", "before", "made"]) await remove(name);
    assert.deepEqual(
      await Promise.all(["made", "before", "half/made", "half"].map(exists)),
      [false, true, false, true],
    );

    // Made again, as after a reboot: it is ours from then on.
    await mount(url, "before");
    const repo = { by: "name", name: "before" } as const;
    await service.unmount({ repo, lazy: false }, CONTEXT);
    await Deno.remove(`${ground.dir}/before`);
    // Unless that fails: then it is gone again, and what comes there next is not ours.
    mounts.failure = new Error("no");
    await assert.rejects(service.remount({ repo }, CONTEXT));
    mounts.failure = null;
    assert.equal(await exists("before"), false);
    assert.equal(ground.registry.byName("before")?.madeFolders, 0);
    await service.remount({ repo }, CONTEXT);
    assert.equal(ground.registry.byName("before")?.madeFolders, 1);
    await remove("before");
    assert.equal(await exists("before"), false);

    // Somebody has put something there.
    await mount(url, "ours");
    await Deno.writeTextFile(`${ground.dir}/ours/theirs`, "x");
    await remove("ours");
    assert.equal(await exists("ours/theirs"), true);
  });
});

Deno.test("mount again: another owner is refused, the same or none is taken", async () => {
  await withService(async ({ ground, mount }) => {
    const url = fileUrlOf(await ground.makeRemote());
    const own = { uid: Deno.uid() as number, gid: Deno.gid() as number };
    await mount(url, "m");
    assert.equal((await mount(url, "m", { ...own, ownerGiven: true })).acquired, false);
    // Somebody else's default, with sudo: nothing was asked for.
    assert.equal((await mount(url, "m", { uid: own.uid + 1 })).acquired, false);
    const others = [{ ...own, uid: own.uid + 1 }, { ...own, gid: own.gid + 1 }];
    for (const other of others) {
      await assert.rejects(mount(url, "m", { ...other, ownerGiven: true }), (error) => {
        assert.ok(error instanceof Failure);
        assert.equal(error.kind, "busy");
        const whose = `"m" for user ${own.uid}, group ${own.gid} is registered there`;
        return error.message.includes(whose) && /^Cannot mount at .*; choose/.test(error.message);
      });
    }
  });
});

Deno.test("mount again with a token: it is kept, also where there was none", async () => {
  await withService(async ({ ground, mount }) => {
    const remote = await ground.makeRemote();
    await using server = startGitServer({ root: ground.dir });
    const name = remote.slice(ground.dir.length + 1);
    await mount(server.url(name), "m", { wait: "history" });
    const login = { user: "u", password: "t0ken" };
    await mount(server.url(name, login), "m");
    const { id = "" } = ground.registry.byName("m") ?? {};
    const text = await Deno.readTextFile(ground.layout.repo(id).credentialsPath);
    assert.equal(text, "username=u\npassword=t0ken\n");
    server.set({ login });
    // Another work tree of the same remote needs no token of its own.
    assert.equal((await mount(server.url(name), "n", { wait: "history" })).history, "full");
  });
});
