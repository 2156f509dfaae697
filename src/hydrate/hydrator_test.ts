import assert from "node:assert/strict";
import {
  answerOf,
  arriveAndOpen,
  type Asked,
  assertBytes,
  COMMIT,
  gates,
  onlyProcess,
  OTHER_COMMIT,
  OTHER_ROOT,
  pidsOf,
  sizeOf,
  smallBytes,
  startChecker,
  stopChecker,
  type World,
  world,
} from "../../tests/fakes/hydration_world.ts";
import { Random } from "../../tests/support/git_objects.ts";
import { sleep, waitFor } from "../../tests/support/run.ts";
import type { Need } from "./messages.ts";
import { SPOOL_BYTES } from "./spool.ts";

/** COALESCE_MS of hydrator.ts; nothing here sleeps exactly so long. */
const COALESCE_MS = 3;

/** Keeps the hydrator's timers until they are fired: a look may take as long as it takes. */
function holdTimers() {
  const real = globalThis.setTimeout;
  const held: (() => void)[] = [];
  globalThis.setTimeout = ((callback: () => void, ms?: number) => {
    if (ms !== COALESCE_MS) return real(callback, ms);
    held.push(callback);
    return 0;
  }) as typeof setTimeout;
  return {
    held,
    fire: () => held.splice(0).forEach((callback) => callback()),
    [Symbol.dispose]: () => {
      globalThis.setTimeout = real;
    },
  };
}

Deno.test("many wants of two mounts for one blob: one download, everybody is answered", async () => {
  await using w = await world({ mounts: [1, 2] });
  const gate = gates(w.source);
  const asked: Asked[] = [];
  const askAll = () => {
    for (let i = 0; i < 20; i++) {
      asked.push(w.want(2, 1, i % 2 === 0 ? "size" : "content", 1 + (i >> 1) % 2));
    }
  };
  askAll();
  const first = await gate.next();
  askAll();
  arriveAndOpen(first);
  for (const { done } of asked) await done();
  assert.equal(w.source.asked.get(w.blob(2, 1).oid), 1);
  assert.deepEqual([...w.source.asked.values()], w.blobs[2]?.map(() => 1));
  assert.deepEqual(w.of("unavailable"), []);
  assertBytes(await w.want(2, 1, "content", 2).done(), w.blob(2, 1));
  assert.equal(w.source.calls.length, 1);
});

Deno.test("misses of a few milliseconds travel in one fetch", async () => {
  await using w = await world({ dirs: 20, mounts: [1, 2] });
  using timers = holdTimers();
  const asked = [0, 5, 10, 15].map((at, i) => w.want(at, 0, "size", 1 + i % 2));
  // Each of them ends in the queue, and the first one starts the only timer.
  await waitFor(() => w.base.looked === 4, "look at the siblings of each");
  const here = [1, 2].map((mountId) => {
    w.arrive(w.blob(19, mountId).oid);
    return w.wantOid(w.blob(19, mountId).oid, "size", null, mountId);
  });
  for (const { done } of here) await done();
  await sleep(20);
  assert.equal(timers.held.length, 1);
  assert.equal(w.source.calls.length, 0);
  timers.fire();
  for (const { done } of asked) await done();
  assert.equal(w.source.calls.length, 1);
  const named = w.source.calls[0]?.oids ?? [];
  for (const at of [0, 5, 10, 15]) assert.ok(named.includes(w.blob(at, 0).oid));
  assert.equal(new Set(named).size, named.length);
});

Deno.test("siblings ride along in the fetch of the blob that was asked for", async () => {
  await using w = await world();
  assert.deepEqual(await w.want(3, 1, "size").done(), sizeOf(w.blob(3, 1)));
  assert.equal(w.source.calls.length, 1);
  assert.equal(w.source.calls[0]?.oids[0], w.blob(3, 1).oid, "the one that is waited for is first");
  assert.deepEqual([...w.source.calls[0]?.oids ?? []].sort(), w.oidsOf([w.blobs[3]!]).sort());
  await waitFor(() => w.of("hydrated").length === 1, "end of the fetch");
  const { durationMs: _, ...hydrated } = w.of("hydrated")[0]!;
  const expected = { kind: "hydrated", reason: "directory", blobs: 3, packBytes: 30, error: null };
  assert.deepEqual(hydrated, expected);
  // All of them became known.
  for (const { oid } of w.blobs[3]!) {
    assert.ok(answerOf(w.events, 0, 1, oid, "size") !== null);
  }
});

Deno.test("a fetch that starts while siblings are looked at does not take the blob alone", async () => {
  await using w = await world({ mounts: [1, 2], concurrency: 1, partial: false });
  const checker = await stopChecker(w, 2);
  const looked = w.base.looked;
  const waits = w.want(4, 0, "content", 2);
  await waitFor(() => w.base.looked > looked, "look at the siblings");
  assert.deepEqual(await w.want(1, 0, "size", 1).done(), sizeOf(w.blob(1, 0)));
  assert.ok(w.source.calls.every(({ oids }) => !oids.includes(w.blob(4, 0).oid)));
  Deno.kill(checker, "SIGCONT");
  assertBytes(await waits.done(), w.blob(4, 0));
  const call = w.source.calls.find(({ oids }) => oids.includes(w.blob(4, 0).oid));
  assert.deepEqual([...call?.oids ?? []].sort(), w.oidsOf([w.blobs[4]!]).sort());
});

Deno.test("a failed fetch: everybody who waits is told why, and the next want asks again", async () => {
  await using w = await world({ mounts: [1, 2] });
  w.source.outcome = () => Promise.reject(new Error("the network is down"));
  const asked = [
    w.want(1, 0, "size"),
    w.want(1, 0, "content"),
    w.want(1, 0, "content", 2),
    w.want(1, 1, "size", 2),
  ];
  for (const { done } of asked) {
    assert.deepEqual(await done(), {
      kind: "unavailable",
      cause: "Cannot fetch contents: the network is down",
    });
  }
  const failed = w.of("hydrated");
  assert.ok(
    failed.every(({ error, blobs }) => error?.endsWith(": the network is down") && blobs === 0),
  );
  assert.ok(failed.length > 0);
  w.source.outcome = ({ arrive, oids }) => arrive(oids);
  assert.deepEqual(await w.want(1, 0, "size").done(), sizeOf(w.blob(1, 0)));
  assert.deepEqual(await w.want(1, 2, "size").done(), sizeOf(w.blob(1, 2)));
});

Deno.test("a fetch that fails half way: what came is here, the rest is not", async () => {
  await using w = await world();
  const gate = gates(w.source);
  const came = w.want(1, 0, "content");
  const lacks = w.want(1, 1, "size");
  const fetch = await gate.next();
  fetch.call.arrive([w.blob(1, 0).oid]);
  fetch.fail("the connection broke");
  // It is tried once more without the siblings, and the second want may have come too late for it.
  await waitFor(() => {
    gate.waiting.shift()?.fail("the connection broke");
    return came.answer() !== null && lacks.answer() !== null;
  }, "answers");
  assertBytes(await came.done(), w.blob(1, 0));
  assert.deepEqual(await lacks.done(), {
    kind: "unavailable",
    cause: "Cannot fetch contents: the connection broke",
  });
});

Deno.test("what the remote has lost is unavailable, its siblings are not", async () => {
  await using w = await world({ files: 4 });
  const lost = w.blob(2, 1).oid;
  w.source.outcome = ({ arrive, oids }) => arrive(oids.filter((each) => each !== lost));
  const asked = [w.want(2, 0, "content"), w.want(2, 1, "content"), w.want(2, 2, "size")];
  const answers = await Promise.all(asked.map(({ done }) => done()));
  assertBytes(answers[0]!, w.blob(2, 0));
  const cause = "the remote does not have the object";
  assert.deepEqual(answers[1], { kind: "unavailable", cause });
  assert.deepEqual(answers[2], sizeOf(w.blob(2, 2)));
  assert.deepEqual(await w.want(2, 3, "size").done(), sizeOf(w.blob(2, 3)));
});

Deno.test("many are lost: who waits is answered rightly, and what was left comes later", async () => {
  await using w = await world({ dirs: 4, files: 12, concurrency: 1 });
  const lost = new Set(w.oidsOf(w.blobs.slice(0, 1)).slice(4));
  const remote = { most: 3 };
  // A remote that names at most so many lost ones, and is then asked for the first half only.
  w.source.outcome = ({ oids, arrive }) => {
    const named = oids.filter((each) => lost.has(each)).slice(0, remote.most);
    const rest = oids.filter((each) => !named.includes(each));
    const half = named.length < remote.most ? rest : rest.slice(0, 2);
    const asked = half.filter((each) => !lost.has(each));
    arrive(asked);
    return { lost: named, left: rest.filter((each) => !asked.includes(each)) };
  };
  const first = w.want(0, 0, "size");
  const others = [1, 2, 3, 5, 6, 11].map((file) => w.want(0, file, "size"));
  assert.deepEqual(await first.done(), sizeOf(w.blob(0, 0)));
  for (const [i, file] of [1, 2, 3].entries()) {
    assert.deepEqual(await others[i]?.done(), sizeOf(w.blob(0, file)));
  }
  for (const asked of others.slice(3)) assert.equal((await asked.done()).kind, "unavailable");
  // Lookahead does not ask for what is known to be lost.
  w.source.calls.length = 0;
  remote.most = 100;
  assert.equal((await w.want(0, 5, "content").done()).kind, "unavailable");
  const named = new Set(
    w.source.calls.flatMap((call) => call.oids).filter((each) => lost.has(each)),
  );
  assert.ok(named.has(w.blob(0, 5).oid));
  assert.ok(!named.has(w.blob(0, 6).oid) && !named.has(w.blob(0, 11).oid));
});

Deno.test("the checker is killed while it looks for a blob: told, and the next want works", async () => {
  await using w = await world();
  const checker = await stopChecker(w, 1);
  const asked = [w.want(1, 0, "size"), w.want(2, 0, "size")];
  Deno.kill(checker, "SIGKILL");
  for (const { done } of asked) assert.equal((await done()).kind, "unavailable");
  assert.deepEqual(await w.want(1, 0, "size").done(), sizeOf(w.blob(1, 0)));
});

Deno.test("the checker is killed while lookahead looks: the blob itself comes all the same", async () => {
  await using w = await world({ partial: false });
  const checker = await stopChecker(w, 1);
  const looked = w.base.looked;
  const asked = w.want(1, 0, "content");
  await waitFor(() => w.base.looked > looked, "look at the siblings");
  Deno.kill(checker, "SIGKILL");
  assertBytes(await asked.done(), w.blob(1, 0));
  assert.deepEqual(w.of("unavailable"), []);
  assert.deepEqual(w.source.calls.map(({ oids }) => oids), [[w.blob(1, 0).oid]]);
});

Deno.test("the checker is killed after the fetch: everybody is answered", async () => {
  await using w = await world();
  const gate = gates(w.source);
  const checker = await startChecker(w, 1);
  const asked = [w.want(1, 0, "size"), w.want(1, 0, "content")];
  const fetch = await gate.next();
  Deno.kill(checker, "SIGSTOP");
  arriveAndOpen(fetch);
  await waitFor(() => w.source.active === 0, "end of the fetch");
  await sleep(1);
  Deno.kill(checker, "SIGKILL");
  for (const { done } of asked) await done();
  assert.deepEqual(await w.want(1, 0, "size").done(), sizeOf(w.blob(1, 0)));
  assertBytes(await w.want(1, 0, "content").done(), w.blob(1, 0));
});

Deno.test("what is here is answered without a fetch", async () => {
  const contentOf = (_: number, file: number) =>
    new Random(file).bytes([0, 10, SPOOL_BYTES, SPOOL_BYTES + 1][file] ?? 1);
  await using w = await world({ dirs: 1, files: 4, content: contentOf });
  for (const { oid } of w.blobs[0]!) w.arrive(oid);
  for (let file = 0; file < 4; file++) {
    assert.deepEqual(await w.want(0, file, "size").done(), sizeOf(w.blob(0, file)));
  }
  for (let file = 0; file < 3; file++) {
    assertBytes(await w.want(0, file, "content").done(), w.blob(0, file));
  }
  const big = await w.want(0, 3, "content").done();
  assert.equal(big.kind, "file");
  if (big.kind === "file") assert.deepEqual(await Deno.readFile(big.path), w.blob(0, 3).bytes);
  assert.equal(w.source.calls.length, 0);
  const lengths = w.of("contents").map(({ bytes }) => bytes.byteLength);
  assert.ok(Math.max(...lengths) <= SPOOL_BYTES);
});

Deno.test("a big blob that is not here: one download, one file, both mounts are told", async () => {
  const contentOf = (at: number, file: number) =>
    at === 0 && file === 0 ? new Random(5).bytes(5 << 20) : smallBytes(at, file);
  await using w = await world({ mounts: [1, 2], content: contentOf });
  const asked = [w.want(0, 0, "content"), w.want(0, 0, "content", 2), w.want(0, 0, "content")];
  const answers = await Promise.all(asked.map(({ done }) => done()));
  for (const answer of answers) {
    assert.equal(answer.kind, "file");
    assert.deepEqual(answer, answers[0]);
  }
  const [answer] = answers;
  if (answer?.kind === "file") assert.deepEqual(Deno.readFileSync(answer.path), w.blob(0, 0).bytes);
  assert.equal(w.source.asked.get(w.blob(0, 0).oid), 1);
  assert.ok(w.of("spool").every(({ sizeBytes }) => sizeBytes === 5 << 20));
});

Deno.test("git is killed inside a big blob: all who follow it are told, the next want starts anew", async () => {
  const contentOf = (at: number, file: number) =>
    at === 0 && file === 0 ? new Random(5).bytes(48 << 20) : smallBytes(at, file);
  await using w = await world({ mounts: [1, 2], concurrency: 1, content: contentOf });
  w.arrive(w.blob(0, 0).oid);
  const first = w.want(0, 0, "content");
  await waitFor(() => w.of("spool").length > 0, "first part", { pollMs: 0 });
  const second = w.want(0, 0, "content", 2);
  const reader = await onlyProcess(w, 1);
  if (first.answer() === null) Deno.kill(reader, "SIGKILL");
  await first.done();
  await second.done();
  for (const mountId of [1, 2]) {
    const answer = await w.want(0, 0, "content", mountId).done();
    assert.equal(answer.kind, "file");
    if (answer.kind === "file") assert.equal(Deno.statSync(answer.path).size, 48 << 20);
  }
});

Deno.test("a blob whose size is known and that has gone is fetched for who wants it", async () => {
  await using w = await world({ dirs: 3, files: 8 });
  w.base.putSizes(w.blobs.flat().map(({ oid, bytes }) => [oid, bytes.length]));
  for (const { oid } of w.blobs[0]!) w.arrive(oid);
  const asked = [0, 1].flatMap((at) => w.blobs[at]!.map((_, file) => w.want(at, file, "content")));
  for (const [i, { done }] of asked.entries()) {
    assertBytes(await done(), w.blob(Math.floor(i / 8), i % 8));
  }
});

/** Reads the directories in order, waiting for each; the number of fetches that took. */
async function walk(w: World, need: Need, from: number, mountId = 1): Promise<number> {
  const before = w.source.calls.length;
  for (let at = from; at < w.blobs.length; at++) {
    const asked = w.want(at, 0, need, mountId);
    assert.notEqual((await asked.done()).kind, "unavailable");
  }
  return w.source.calls.length - before;
}

Deno.test("lookahead that cannot be had fails nobody, and is asked for again", async () => {
  await using w = await world({ dirs: 60, files: 2 });
  let largest = 0;
  w.source.outcome = ({ arrive, oids }) => {
    largest = Math.max(largest, oids.length);
    if (oids.length > 30) throw new Error("too much at once");
    arrive(oids);
  };
  let failedAt = 0;
  while (largest <= 60) {
    assertBytes(await w.want(failedAt, 0, "content").done(), w.blob(failedAt, 0));
    failedAt++;
  }
  assert.ok(largest > 60, `the rest was asked for: ${largest}`);
  w.source.outcome = ({ arrive, oids }) => arrive(oids);
  const fetches = await walk(w, "content", failedAt);
  assert.ok(fetches < 8, `${fetches} fetches for ${60 - failedAt} directories`);
});

Deno.test("a scan of most of a tree asks for the commit, scattered reads for blobs", async () => {
  await using w = await world({ dirs: 80, files: 5, mounts: [1, 2] });
  for (const at of [70, 10, 40]) await w.want(at, 0, "content", 2).done();
  assert.ok(w.source.calls.every(({ commitOid }) => commitOid === null));
  await walk(w, "content", 0);
  const whole = w.source.calls.filter(({ commitOid }) => commitOid !== null);
  assert.deepEqual(whole.map(({ commitOid }) => commitOid), [COMMIT]);
  assert.equal(w.source.calls.at(-1)?.commitOid, COMMIT);
  assert.equal(w.of("hydrated").at(-1)?.reason, "scan");
});

Deno.test("of a small tree, and of the last part of a big one, blobs are asked for", async () => {
  await using small = await world({ dirs: 30, files: 5 });
  await walk(small, "content", 0);
  assert.ok(small.source.calls.every(({ commitOid }) => commitOid === null));

  await using big = await world({ dirs: 80, files: 5 });
  const first = big.blobs.slice(0, 50).flat();
  for (const { oid } of first) big.arrive(oid);
  big.base.putSizes(first.map(({ oid, bytes }) => [oid, bytes.length]));
  await walk(big, "content", 0);
  assert.ok(big.source.calls.every(({ commitOid }) => commitOid === null));
});

Deno.test("a whole commit does not stand for what another mount's commit has", async () => {
  await using w = await world({
    dirs: 90,
    files: 5,
    mounts: [1, 9],
    concurrency: 1,
    otherDirs: [85, 86],
  });
  // Commit 1 does not have directory 85 and 86, as far as the source knows.
  w.source.commit(COMMIT, w.oidsOf(w.blobs.slice(0, 80)));
  let at = 0;
  for (; w.source.calls.length < 2; at++) await w.want(at, 0, "content").done();
  const gate = gates(w.source);
  const blocker = w.want(82, 0, "size", 9);
  const blocking = await gate.next();
  // These two wait for the same fetch, in either order.
  const looked = w.base.looked;
  const other = w.want(85, 0, "content", 9);
  await waitFor(() => w.base.looked > looked, "look at the siblings");
  const rest: Asked[] = [];
  for (let more = at; more < 30; more++) rest.push(w.want(more, 0, "content"));
  await sleep(100);
  arriveAndOpen(blocking);
  w.source.outcome = ({ arrive, oids }) => arrive(oids);
  await blocker.done();
  assertBytes(await other.done(), w.blob(85, 0));
  for (const { done } of rest) assert.equal((await done()).kind, "bytes");
  assert.ok(w.source.calls.some(({ commitOid }) => commitOid === COMMIT));
});

Deno.test("another commit beneath a mount: its tree is walked, and asked for by name", async () => {
  await using w = await world({
    dirs: 90,
    files: 5,
    otherDirs: Array.from({ length: 60 }, (_, i) => 30 + i),
  });
  await w.want(0, 0, "content").done();
  const move = {
    kind: "move",
    mountId: 1,
    commitOid: OTHER_COMMIT,
    rootTreeOid: OTHER_ROOT,
  } as const;
  w.hydrator.move(move);
  const before = w.source.calls.length;
  for (let at = 30; at < 90; at++) await w.want(at, 0, "content").done();
  const calls = w.source.calls.slice(before);
  assert.ok(calls.length <= 5, `${calls.length} fetches`);
  // The remote may never have seen it: it is in no pack that came from there.
  assert.ok(calls.every(({ commitOid }) => commitOid === null));
  const ofOther = new Set(w.oidsOf(w.blobs.slice(30)));
  assert.ok(calls.every(({ oids }) => oids.every((oid) => ofOther.has(oid))));
  w.hydrator.move({ ...move, mountId: 77 });
});

Deno.test("what was wanted before the base moved is not taken for the new commit's", async () => {
  await using w = await world({ dirs: 90, files: 5, concurrency: 1, otherDirs: [88, 89] });
  let at = 0;
  for (; w.source.calls.length < 2; at++) await w.want(at, 0, "content").done();
  const gate = gates(w.source);
  const blocker = w.wantOid(w.blob(89, 0).oid, "size", null);
  const blocking = await gate.next();
  // One of another tree than the walk's: it waits with what the walk wants.
  const odd = w.wantOid(w.blob(87, 1).oid, "content", null);
  const rest: Asked[] = [];
  for (let more = at; more < 30; more++) rest.push(w.want(more, 0, "content"));
  await sleep(100);
  w.source.commit(COMMIT, w.oidsOf(w.blobs.slice(0, 80)));
  arriveAndOpen(blocking);
  w.source.outcome = ({ arrive, oids }) => arrive(oids);
  await blocker.done();
  assertBytes(await odd.done(), w.blob(87, 1));
  for (const { done } of rest) assert.equal((await done()).kind, "bytes");
  assert.ok(w.source.calls.some(({ commitOid }) => commitOid === COMMIT));
});

Deno.test("no more fetches at once than allowed; what waits goes out as one", async () => {
  await using w = await world({ dirs: 20, concurrency: 2, mounts: [1, 2, 3, 4] });
  const gate = gates(w.source);
  const first = w.want(0, 0, "size", 1);
  const one = await gate.next();
  const second = w.want(5, 0, "size", 2);
  const two = await gate.next();
  const looked = w.base.looked;
  const others = [[10, 3], [15, 4], [18, 1]].map(([at, mountId]) =>
    w.want(at!, 0, "size", mountId!)
  );
  await waitFor(() => w.base.looked === looked + 3, "look at the siblings");
  // Answers of a checker come in order: behind these the others are in the queue.
  for (const mountId of [3, 4, 1]) {
    w.arrive(w.blob(19, 0).oid);
    await w.wantOid(w.blob(19, 0).oid, "size", null, mountId).done();
  }
  await sleep(20);
  assert.equal(w.source.calls.length, 2);
  arriveAndOpen(one);
  const three = await gate.next();
  for (const at of [10, 15, 18]) assert.ok(three.call.oids.includes(w.blob(at, 0).oid));
  arriveAndOpen(three);
  arriveAndOpen(two);
  for (const { done } of [first, second, ...others]) assert.equal((await done()).kind, "size");
  assert.equal(w.source.mostActive, 2);
  assert.equal(w.source.calls.length, 3);
});

Deno.test("a mount goes in the middle of a fetch: the other one is answered", async () => {
  await using w = await world({ mounts: [1, 2] });
  const gate = gates(w.source);
  const gone = w.want(1, 0, "content", 1);
  const fetch = await gate.next();
  const size = w.want(1, 0, "size", 2);
  const bytes = w.want(1, 0, "content", 2);
  const later = w.want(1, 1, "content", 2);
  // Behind these in the same processes: the wants of mount 2 have joined by then.
  w.arrive(w.blob(5, 0).oid);
  await w.want(5, 0, "size", 2).done();
  await w.wantOid(w.blob(5, 0).oid, "content", null, 2).done();
  await waitFor(async () => (await pidsOf(w.viewOf(2))).length === 3, "readers of mount 2");
  await sleep(20);
  await w.hydrator.detach(1);
  arriveAndOpen(fetch);
  assert.deepEqual(await size.done(), sizeOf(w.blob(1, 0)));
  assertBytes(await bytes.done(), w.blob(1, 0));
  assertBytes(await later.done(), w.blob(1, 1));
  assert.equal(gone.answer()?.kind ?? "unavailable", "unavailable");
});

Deno.test("a mount goes while git looks for it: no process is left, later wants are told", async () => {
  await using w = await world({ mounts: [1, 2] });
  for (let at = 0; at < 6; at++) {
    w.want(at, 0, "size");
    w.want(at, 1, "content");
  }
  await w.hydrator.detach(1);
  await w.hydrator.detach(1);
  assert.deepEqual(await pidsOf(w.viewOf(1)), []);
  const { length } = w.events;
  const late = w.want(0, 0, "size");
  assert.deepEqual(await w.want(5, 2, "size", 2).done(), sizeOf(w.blob(5, 2)));
  assert.equal(w.events.slice(length).filter((event) => event.kind === "unavailable").length, 1);
  await waitFor(() => w.source.active === 0, "end of the fetches");
  assert.equal((await late.done()).kind, "unavailable");
});

Deno.test("progress of a fetch is told, but not each time", async () => {
  await using w = await world();
  const gate = gates(w.source);
  const asked = w.want(1, 0, "size");
  const fetch = await gate.next();
  const progress = () => fetch.call.options.onProgress?.();
  await waitFor(() => {
    progress();
    return w.of("progress").length > 0;
  }, "progress");
  for (let i = 0; i < 1000; i++) progress();
  assert.ok(w.of("progress").length <= 2);
  arriveAndOpen(fetch);
  await asked.done();
});

Deno.test("siblings that came before are not asked for again", async () => {
  await using w = await world();
  w.base.putSizes([[w.blob(2, 0).oid, w.blob(2, 0).bytes.length]]);
  await w.want(2, 1, "size").done();
  assert.deepEqual(w.source.calls.map(({ oids }) => oids), [[w.blob(2, 1).oid, w.blob(2, 2).oid]]);
});

Deno.test("what a killed hydrator fetched and did not tell is not asked for again", async () => {
  const packs = { "pack-a": [[0, 1], [0, 2], [1, 0]], "pack-b": [[2, 0]] } as const;
  await using w = await world({ packs, sizedPacks: ["pack-b"] });
  assert.deepEqual(await w.want(0, 0, "size").done(), sizeOf(w.blob(0, 0)));
  assert.deepEqual([...w.source.asked.keys()], [w.blob(0, 0).oid]);
  // Its sizes are told, and kept before the pack is called sized; the other is not looked at.
  const told = w.events.findIndex((event) => event.kind === "sized-packs");
  const before = w.events.slice(0, told).flatMap((event) =>
    event.kind === "sizes" ? event.sizes : []
  );
  const expected = packs["pack-a"].map(([at, file]) => w.blob(at, file));
  assert.deepEqual(before, expected.map(({ oid, bytes }) => [oid, bytes.length]));
  assert.deepEqual(w.source.opened, ["pack-a"]);
  await waitFor(() => w.of("sized-packs").length === 2, "sized packs");
  assert.deepEqual(w.of("sized-packs").map(({ names }) => names), [["pack-a"], ["pack-1"]]);
});

Deno.test("a pack that could not be looked at is not called sized", async () => {
  await using w = await world();
  const pid = await startChecker(w, 1);
  const gate = gates(w.source);
  const asked = w.want(1, 0, "size");
  const first = await gate.next();
  Deno.kill(pid, "SIGSTOP");
  arriveAndOpen(first);
  await waitFor(() => w.source.active === 0, "end of the fetch");
  Deno.kill(pid, "SIGKILL");
  assert.equal((await asked.done()).kind, "unavailable");
  await waitFor(() => w.of("hydrated").length === 1, "end of the batch");
  assert.deepEqual(w.of("sized-packs"), []);
});

Deno.test("that packs have come is said first, and every want is answered all the same", async () => {
  await using w = await world();
  const asked = [w.want(1, 0, "size"), w.want(1, 1, "content")];
  for (const { done } of asked) assert.notEqual((await done()).kind, "unavailable");
  const kinds = w.events.map(({ kind }) => kind);
  assert.ok(kinds.includes("arrived"));
  assert.ok(kinds.indexOf("arrived") < kinds.indexOf("sizes"), kinds.join(" "));
});

Deno.test("that packs have come is said also after a fetch that failed half way", async () => {
  await using w = await world();
  w.source.outcome = ({ arrive, oids }) => {
    arrive(oids.slice(0, 1));
    return Promise.reject(new Error("the connection broke"));
  };
  assert.deepEqual(await w.want(1, 0, "size").done(), sizeOf(w.blob(1, 0)));
  assert.ok(w.of("arrived").length > 0);
});

Deno.test("contents read without a want, and told with the next, tell a scan", async () => {
  await using w = await world({ dirs: 60, files: 5 });
  await w.want(0, 0, "size").done();
  await w.wantOid(w.blob(1, 0).oid, "size", 1, 1, 5).done();
  await waitFor(() => w.of("hydrated").length === 2, "end of the fetches");
  assert.deepEqual(w.of("hydrated").map(({ reason }) => reason), ["directory", "scan"]);
});

Deno.test("stop ends what runs: who waits is told, no process is left", async () => {
  await using w = await world({ mounts: [1, 2] });
  const aborted = Promise.withResolvers<void>();
  w.source.outcome = ({ options: { signal } }) => {
    signal?.addEventListener("abort", () => aborted.reject(signal.reason));
    return aborted.promise;
  };
  const asked = [w.want(1, 0, "size"), w.want(1, 0, "content", 2)];
  await waitFor(() => w.source.active > 0, "fetch");
  await w.hydrator.stop();
  for (const { done } of asked) assert.equal((await done()).kind, "unavailable");
  for (const mountId of [1, 2]) assert.deepEqual(await pidsOf(w.viewOf(mountId)), []);
});
