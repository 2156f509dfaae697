import assert from "node:assert/strict";
import { ALLOWED_VARIABLES } from "./environment.ts";

Deno.test("scripts/build allows every variable that is read", async () => {
  const script = await Deno.readTextFile(new URL("../../scripts/build", import.meta.url));
  const allowed = [...script.matchAll(/^\s*allow_env=(\S+)$/gm)]
    .flatMap((match) => (match[1] as string).split(","));
  const isAllowed = (name: string) =>
    allowed.some((entry) =>
      entry === name || entry.endsWith("*") && name.startsWith(entry.slice(0, -1))
    );
  assert.deepEqual(ALLOWED_VARIABLES.filter((name) => !isAllowed(name)), []);
});
