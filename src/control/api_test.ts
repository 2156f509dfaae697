import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import { isVerb, parseRequest, parseResult } from "./api.ts";

const OPERATION = "8b0b7f0e-6a0e-4a5c-9a51-2f6a3b1d7c55";
const MOUNT = {
  url: "https://user:hunter22@host/x",
  dir: "/mnt/x",
  name: null,
  branch: null,
  depth: null,
  uid: 0,
  gid: 0,
  xattrs: false,
  requiredCommit: null,
  tokenFile: null,
  readOnly: false,
  gitDir: null,
  preparedGitDir: false,
  singleBranch: false,
  ownerGiven: false,
  wait: "tree",
};

function request(params: unknown, version: unknown = 1) {
  return { version, operation: OPERATION, params };
}

Deno.test("a proper request is taken", () => {
  assert.deepEqual(parseRequest("mount", request(MOUNT)), { operation: OPERATION, params: MOUNT });
  assert.ok(isVerb("add-repo"));
  assert.ok(!isVerb("constructor"));
});

Deno.test("another version is refused, and named", () => {
  assert.throws(
    () => parseRequest("ping", { version: 2, whatever: true }),
    (error) =>
      error instanceof Failure && error.kind === "fatal" && /version 2/.test(error.message),
  );
});

Deno.test("malformed requests are refused without repeating what they hold", () => {
  const bodies: unknown[] = [
    null,
    [],
    "x",
    {},
    { version: "1", operation: OPERATION, params: MOUNT },
    { version: 1, params: MOUNT },
    { version: 1, operation: "x", params: MOUNT },
    request(null),
    request({}),
    request({ ...MOUNT, dir: "relative" }),
    request({ ...MOUNT, uid: -1 }),
    request({ ...MOUNT, uid: 0xffff_ffff }),
    request({ ...MOUNT, uid: 1.5 }),
    request({ ...MOUNT, wait: "long" }),
    request({ ...MOUNT, url: ["https://user:hunter22@host/x"] }),
    request({ ...MOUNT, more: 1 }),
    request({ ...MOUNT, url: "x".repeat(10_000) }),
  ];
  for (const body of bodies) {
    assert.throws(() => parseRequest("mount", body), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.kind, "usage");
      assert.doesNotMatch(error.message, /hunter22/);
      return true;
    });
  }
});

Deno.test("answers are checked; new fields are no error", () => {
  const result = parseResult("ping", { pid: 1, afs: "0", later: true });
  assert.equal(result.pid, 1);
  assert.throws(() => parseResult("ping", { pid: "1" }), /pid/);
});
