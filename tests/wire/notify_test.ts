/** Notifications as bytes (struct fuse_out_header and what follows it in linux/fuse.h). */

import assert from "node:assert/strict";
import {
  barrier,
  invalAttributes,
  invalEntry,
  invalInode,
  joinMessages,
  splitMessages,
} from "../../src/fuse/notify.ts";
import type { Name } from "../../src/path.ts";

const NO_UNIQUE = [0, 0, 0, 0, 0, 0, 0, 0];

Deno.test("a node's pages and attributes, or its attributes alone", () => {
  const zeros = Array(8).fill(0);
  const header = [40, 0, 0, 0, 2, 0, 0, 0, ...NO_UNIQUE];
  const nodeid = [3, 2, 0, 0, 0, 0, 0, 0];
  assert.deepEqual([...invalInode(0x203)], [...header, ...nodeid, ...zeros, ...zeros]);
  const minusOne = Array(8).fill(255);
  assert.deepEqual([...invalAttributes(0x203)], [...header, ...nodeid, ...minusOne, ...zeros]);
});

Deno.test("a name: its bytes, and a NUL that is not counted", () => {
  assert.deepEqual([...invalEntry(1, "a\xff" as Name)], [
    ...[35, 0, 0, 0, 3, 0, 0, 0, ...NO_UNIQUE],
    ...[1, 0, 0, 0, 0, 0, 0, 0],
    ...[2, 0, 0, 0, 0, 0, 0, 0],
    ...[97, 255, 0],
  ]);
});

Deno.test("a barrier: a name that is expired, or one that nobody has", () => {
  const name = "a" as Name;
  const expired = [...invalEntry(7, name)];
  expired[28] = 1;
  assert.deepEqual([...barrier(7, name, 38)], expired);
  assert.deepEqual([...barrier(7, name, 45)], expired);
  // The flag would be none, and a directory taken from who is in it.
  assert.deepEqual([...barrier(7, name, 37)], [...invalEntry(7, "/" as Name)]);
});

Deno.test("joined and split again", () => {
  const messages = [invalEntry(1, "name" as Name), invalInode(1), invalEntry(2, "" as Name)];
  assert.deepEqual([...splitMessages(joinMessages(messages))], messages);
  assert.deepEqual([...splitMessages(joinMessages([]))], []);
});
