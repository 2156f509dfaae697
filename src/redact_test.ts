import assert from "node:assert/strict";
import { redact, registerSecret, registerSecretsOf } from "./redact.ts";

Deno.test("user and password of a URL are masked anywhere in a text", () => {
  const cases: [string, string][] = [
    ["https://user:pa55@host/x", "https://***@host/x"],
    [
      "fatal: unable to access 'https://u:p@h:8443/x.git/': no",
      "fatal: unable to access 'https://***@h:8443/x.git/': no",
    ],
    ["https://token@host/x", "https://***@host/x"],
    ["https://:pw@host/x", "https://***@host/x"],
    ["http://a:b@c@host/x and https://q:r@s", "http://***@host/x and https://***@s"],
    ["ssh://git@host/x", "ssh://git@host/x"],
    ["ssh://git:pw@host/x", "ssh://***@host/x"],
    ["git@host:x.git", "git@host:x.git"],
    ["https://host/path@2", "https://host/path@2"],
    ["https://host?q=a@b", "https://host?q=a@b"],
    ["Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"],
    ["nothing here", "nothing here"],
  ];
  for (const [text, expected] of cases) assert.equal(redact(text), expected);
});

Deno.test("registered secrets are masked in plain and encoded form", () => {
  registerSecret("s3cr%2Ft-value");
  assert.equal(redact("x=s3cr%2Ft-value y=s3cr/t-value"), "x=*** y=***");
  registerSecret("ab");
  assert.equal(redact("about"), "about", "too short to be a secret");
});

Deno.test("a secret that contains another is masked as a whole", () => {
  registerSecret("inner-secret");
  registerSecret("outer-inner-secret-tail");
  assert.equal(redact("outer-inner-secret-tail inner-secret"), "*** ***");
});

Deno.test("what is secret in a URL", () => {
  registerSecretsOf("https://someone:passw0rd-1@host/x");
  registerSecretsOf("https://ghp_onlytoken@host/x");
  registerSecretsOf("ssh://publicname@host/x");
  assert.equal(
    redact("someone passw0rd-1 ghp_onlytoken publicname"),
    "someone *** *** publicname",
  );
});
