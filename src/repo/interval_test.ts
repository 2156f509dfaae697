import assert from "node:assert/strict";
import { intervalText, parseInterval } from "./interval.ts";

Deno.test("an interval is a number with a unit, or never", () => {
  const good: [string, number | null, string?][] = [
    ["30s", 30],
    ["5m", 300],
    ["1h", 3600],
    ["90s", 90],
    ["60s", 60, "1m"],
    ["120m", 7200, "2h"],
    ["168h", 604_800],
    ["never", null],
  ];
  for (const [text, seconds, shown = text] of good) {
    assert.equal(parseInterval(text), seconds);
    assert.equal(intervalText(seconds), shown);
  }
  for (const text of ["", "30", "0s", "-1s", "1.5m", "169h", "1d", "30 s", "9999999s", "Never"]) {
    assert.equal(parseInterval(text), undefined, text);
  }
});
