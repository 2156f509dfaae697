import assert from "node:assert/strict";
import { cutLogFile } from "./log_file.ts";

Deno.test("a long log is moved aside; who has it open writes on at its new beginning", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/daemon.log`;
  try {
    cutLogFile(path, 10);
    using file = await Deno.open(path, { create: true, append: true });
    const write = (text: string) => file.write(new TextEncoder().encode(text));
    await write("short\n");
    cutLogFile(path, 10);
    assert.equal(await Deno.readTextFile(path), "short\n");
    await write("and long\n");
    cutLogFile(path, 10);
    await write("new\n");
    assert.equal(await Deno.readTextFile(`${path}.1`), "short\nand long\n");
    assert.equal(await Deno.readTextFile(path), "new\n");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
