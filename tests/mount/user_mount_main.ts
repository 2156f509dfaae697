/** Mounts and answers nobody; at a line of input takes the mount away. Says what it does. */

import { detachMount, effectiveGid, effectiveUid, mountFuse } from "../../src/sys/mod.ts";

const [mountPoint = ""] = Deno.args;
const [uid, gid] = [effectiveUid(), effectiveGid()];
const { byHelper, allowsOthers } = mountFuse({
  mountPoint,
  source: "a,b\\c d",
  uid,
  gid,
  readOnly: false,
});
console.log(JSON.stringify({ byHelper, allowsOthers }));
const lines = Deno.stdin.readable.getReader();
await lines.read();
await detachMount(mountPoint);
console.log("detached");
// The device stays open: what ends is the connection.
await lines.read();
