import assert from "node:assert/strict";
import { rightsObstacle } from "./preflight.ts";

const ALL = "000001ffffffffff";
const NONE = "0000000000000000";
const HELPER = "/usr/bin/fusermount3";

function status(effective: string, bounding: string, noNewPrivs = 0): string {
  return `Name:\tafs\nCapPrm:\t${effective}\nCapEff:\t${effective}\nCapBnd:\t${bounding}\n` +
    `NoNewPrivs:\t${noNewPrivs}\n`;
}

Deno.test("who may mount, with whose help, and what is wrong otherwise", () => {
  const cases: readonly [string, string, string | null, RegExp | null][] = [
    ["root, without a helper", status(ALL, ALL, 1), null, null],
    ["only CAP_SYS_ADMIN", status("0000000000200000", ALL), null, null],
    ["a user", status(NONE, ALL), HELPER, null],
    ["a user without a helper", status(NONE, ALL), null, /no fusermount3 in PATH; install fuse3/],
    ["all but CAP_SYS_ADMIN", status("000001ffffdfffff", ALL), null, /no fusermount3/],
    ["no root here has it", status(NONE, "00000000a80425fb"), HELPER, /not even root/],
    ["no program becomes root", status(NONE, ALL, 1), HELPER, /bin\/fusermount3.*no_new_privs/],
    ["a kernel that does not say", "Name:\tafs\n", null, null],
  ];
  for (const [name, text, helper, expected] of cases) {
    const obstacle = rightsObstacle(text, helper);
    if (expected === null) assert.equal(obstacle, null, name);
    else assert.match(obstacle ?? "", expected, name);
  }
});
