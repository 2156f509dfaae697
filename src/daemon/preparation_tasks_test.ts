import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { acquire } from "../repo/acquire.ts";
import type { Preparation } from "../repo/preparations.ts";
import { type Ground, onGround, PLAIN_SETTINGS } from "../repo/testing.ts";
import type { RepoRecord } from "../repo/types.ts";
import { PreparationTasks, type PreparationTasksOptions } from "./preparation_tasks.ts";

const NEVER = new AbortController().signal;

function preparationOn(ground: Ground, remote: string): Preparation {
  const preparation: Preparation = {
    id: "00112233445566aa",
    name: "one",
    remote,
    ...PLAIN_SETTINGS,
    mountPoint: `${ground.dir}/one` as HostPath,
    madeFolders: 2,
    uid: Deno.uid() as number,
    gid: Deno.gid() as number,
    wanted: "mounted",
    askedAt: "2026-01-02T03:04:05.000Z",
    error: null,
  };
  ground.registry.insertPreparation(preparation);
  return preparation;
}

function tasksOn(ground: Ground, options: Partial<PreparationTasksOptions> = {}) {
  const published: RepoRecord[] = [];
  const failed: string[] = [];
  const tasks = new PreparationTasks({
    layout: ground.layout,
    registry: ground.registry,
    onPublished: (record) => {
      published.push(record);
      return Promise.resolve();
    },
    onFailed: ({ name }) => failed.push(name),
    onAsked: () => () => {},
    ...options,
  });
  return { tasks, published, failed };
}

Deno.test("a preparation becomes a repository, with what verbs have changed meanwhile", async () => {
  await onGround(async (ground) => {
    const preparation = preparationOn(ground, `file://${await ground.makeRemote()}`);
    const { tasks, published, failed } = tasksOn(ground);
    const phases: string[] = [];
    tasks.start(preparation);
    tasks.start(preparation);
    ground.registry.preparations.update(preparation.id, {
      wanted: "unmounted",
      remoteRefreshSeconds: null,
    });
    await tasks.wait(preparation.id, ({ phase }) => phases.push(phase), NEVER);
    assert.deepEqual([published.length, failed], [1, []]);
    const record = ground.registry.byName("one");
    assert.deepEqual(
      [record?.id, record?.wanted, record?.remoteRefreshSeconds, record?.madeFolders],
      [preparation.id, "unmounted", null, 2],
    );
    assert.deepEqual(ground.registry.preparations.all(), []);
    assert.ok(phases.includes("Fetching the newest commit"));
    await tasks.wait(preparation.id, () => {}, NEVER);
  });
});

Deno.test("a preparation that fails keeps its cause, and can be tried again", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await Deno.rename(remote, `${remote}.away`);
    const preparation = preparationOn(ground, `file://${remote}`);
    const { tasks, published, failed } = tasksOn(ground);
    tasks.start(preparation);
    await assert.rejects(tasks.wait(preparation.id, () => {}, NEVER), /no git repository there/);
    const { error } = ground.registry.preparations.by("id", preparation.id) as Preparation;
    assert.match(error ?? "", /^Cannot mount .*no git repository there/);
    assert.deepEqual([published, failed], [[], ["one"]]);
    await Deno.rename(`${remote}.away`, remote);
    tasks.start(preparation);
    await tasks.wait(preparation.id, () => {}, NEVER);
    assert.equal(published.length, 1);
  });
});

Deno.test("a preparation that is stopped, or removed meanwhile, leaves no trace", async () => {
  await onGround(async (ground) => {
    const preparation = preparationOn(ground, `file://${await ground.makeRemote()}`);
    const reached = Promise.withResolvers<void>();
    const { tasks, published, failed } = tasksOn(ground, {
      // As a remote that never answers.
      acquire: (_request, { signal }) => {
        reached.resolve();
        return new Promise((_, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
      },
    });
    tasks.start(preparation);
    await reached.promise;
    await tasks.stop(preparation.id);
    assert.deepEqual([published, failed], [[], []]);
    assert.equal(ground.registry.preparations.by("id", preparation.id)?.error, null);

    const removed = tasksOn(ground, {
      acquire: (request, options) => {
        ground.registry.preparations.remove(preparation.id);
        return acquire(request, options);
      },
    });
    removed.tasks.start(preparation);
    await assert.rejects(removed.tasks.wait(preparation.id, () => {}, NEVER), Failure);
    assert.deepEqual(ground.registry.all(), []);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(ground.layout.storesDir)), []);
  });
});
