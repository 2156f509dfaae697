/** Several promises at once. */

/** As Promise.all, but an undoing that follows does not race with the slower ones. */
export async function allToTheirEnds<T extends readonly unknown[]>(
  work: { readonly [K in keyof T]: T[K] | Promise<T[K]> },
): Promise<T> {
  await Promise.allSettled(work);
  return await Promise.all(work) as unknown as T;
}
