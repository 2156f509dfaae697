import assert from "node:assert/strict";
import { invalAttributes, invalEntry, joinMessages } from "../fuse/notify.ts";
import type { Name } from "../path.ts";
import { O, openFd } from "../sys/mod.ts";
import { NoticeState } from "./notice_state.ts";
import { tellAside } from "./notifier.ts";

const MESSAGES = [invalEntry(1, "one" as Name), invalAttributes(2), invalEntry(3, "" as Name)];

async function told(state: NoticeState): Promise<Uint8Array> {
  const path = await Deno.makeTempFile({ prefix: "afs-notifier-" });
  try {
    const fd = openFd(path, O.WRONLY);
    const messages = joinMessages(MESSAGES).buffer;
    await tellAside({ fd, messages, state: state.buffer });
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("told aside: one message after the other, and then it is said", async () => {
  const state = new NoticeState();
  state.begin();
  assert.deepEqual(await told(state), joinMessages(MESSAGES));
  assert.ok(!state.isTelling);
});

Deno.test("told aside: nothing any more when the mount goes", async () => {
  const state = new NoticeState();
  state.begin();
  state.abandon();
  assert.equal((await told(state)).length, 0);
  assert.ok(!state.isTelling);
});
