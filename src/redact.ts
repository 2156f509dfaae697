/**
 * Keeps secrets out of every text that leaves the program: logs, output, errors, `status`.
 *
 * Two rules: user and password of a URL are masked wherever one stands in a text, and so is every
 * secret that was registered. Registration is per thread.
 */

export const MASK = "***";

/** Shorter texts would mask half of every line, and are no secrets. */
const MIN_SECRET_LENGTH = 4;

/**
 * `scheme://userinfo@`. Userinfo ends at the last `@` before the path, as in git's own parser
 * (urlmatch.c); blanks and quotes end a URL within a text.
 */
const URL_USERINFO = /\b([A-Za-z][A-Za-z0-9+.-]*):\/\/([^\s/?#'"<>`]*)@/g;
const AUTHORIZATION = /\b(authorization:\s*(?:basic|bearer|token)\s+)[^\s'"]+/gi;

/** For these a user name alone is no secret: it says which account, and a key does the rest. */
const NAMES_ARE_PUBLIC = /^(?:ssh|git\+ssh|ssh\+git|git|file)$/i;

const secrets = new Set<string>();
/** The secrets, longest first, so that one that contains another is masked as a whole. */
let ordered: readonly string[] = [];

/** From now on `redact` of this thread masks this text, in plain and percent-encoded form. */
export function registerSecret(text: string): void {
  const forms = [text, encodeURIComponent(text), decoded(text)];
  for (const form of forms) if (form.length >= MIN_SECRET_LENGTH) secrets.add(form);
  ordered = [...secrets].sort((a, b) => b.length - a.length);
}

/** Registers what is secret in a URL: its password, or for http the user name when it is alone. */
export function registerSecretsOf(url: string): void {
  const match = new RegExp(URL_USERINFO.source).exec(url);
  if (match === null) return;
  const [, scheme = "", userinfo = ""] = match;
  const colon = userinfo.indexOf(":");
  if (colon >= 0 && colon < userinfo.length - 1) registerSecret(userinfo.slice(colon + 1));
  else if (!NAMES_ARE_PUBLIC.test(scheme)) registerSecret(userinfo.replace(/:$/, ""));
}

/** The text without secrets. */
export function redact(text: string): string {
  let out = text;
  for (const secret of ordered) out = out.replaceAll(secret, MASK);
  if (out.includes("://")) out = out.replaceAll(URL_USERINFO, maskUserinfo);
  return out.replaceAll(AUTHORIZATION, `$1${MASK}`);
}

function maskUserinfo(whole: string, scheme: string, userinfo: string): string {
  const publicName = NAMES_ARE_PUBLIC.test(scheme) && !userinfo.includes(":");
  return publicName ? whole : `${scheme}://${MASK}@`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
