/** What promises are used for in more than one place. */

/** As Promise.all, but an undoing that follows does not race with the slower ones. */
export async function allToTheirEnds<T extends readonly unknown[]>(
  work: { readonly [K in keyof T]: T[K] | Promise<T[K]> },
): Promise<T> {
  await Promise.allSettled(work);
  return await Promise.all(work) as unknown as T;
}

/** A turn for whoever else waits on this thread: its events, timers and messages. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
