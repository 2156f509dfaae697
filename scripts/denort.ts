/**
 * Cuts a program made by `deno compile` back to the denort it was made from.
 *
 * `deno compile` writes its data behind the ELF file, whose last part is the section header table.
 * Whoever cuts at the end of that table has the denort again, byte for byte.
 *
 * Run by scripts/setup before any dependency is there: nothing is imported.
 */

/** The size of the ELF file at the start of `bytes`; throws when it is not laid out as expected. */
export function elfSize(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 64 || view.getUint32(0) !== 0x7f454c46 || view.getUint16(4) !== 0x0201) {
    throw new Error("not a 64-bit little-endian ELF file");
  }
  const offset = (at: number) => Number(view.getBigUint64(at, true));
  const segmentTable = offset(32);
  const sectionTable = offset(40);
  const [segmentSize, segmentCount, sectionSize, sectionCount] = [54, 56, 58, 60].map((at) =>
    view.getUint16(at, true)
  ) as [number, number, number, number];
  const end = sectionTable + sectionSize * sectionCount;
  if (end > bytes.length) throw new Error("the section table lies outside the file");

  const ends: number[] = [];
  for (let i = 0; i < segmentCount; i++) {
    const at = segmentTable + i * segmentSize;
    ends.push(offset(at + 8) + offset(at + 32));
  }
  const SHT_NOBITS = 8;
  for (let i = 0; i < sectionCount; i++) {
    const at = sectionTable + i * sectionSize;
    if (view.getUint32(at + 4, true) !== SHT_NOBITS) ends.push(offset(at + 24) + offset(at + 32));
  }
  if (ends.some((each) => each > end)) throw new Error("a part lies behind the section table");
  return end;
}

if (import.meta.main) {
  const [from, to] = Deno.args;
  if (from === undefined || to === undefined) throw new Error("usage: denort.ts <from> <to>");
  const bytes = Deno.readFileSync(from);
  Deno.writeFileSync(to, bytes.subarray(0, elfSize(bytes)));
}
