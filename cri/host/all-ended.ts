/** Several things that are made at the same time, and are undone together when one of them fails. */

/**
 * As Promise.all, but a failure (the first in the list) is thrown only when none of them is at work any more: what one still made while the others
 * were undone would stay for ever.
 */
export async function allEnded<const Work extends readonly unknown[]>(work: Work): Promise<{ -readonly [Index in keyof Work]: Awaited<Work[Index]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
