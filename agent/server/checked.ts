/** What a request comes to: something to go on with, or an answer at once. */

/** `status` is the HTTP status. */
export interface Refusal {
  readonly status: number;
  readonly text: string;
}

export type Checked<T> = { readonly value: T } | Refusal;
