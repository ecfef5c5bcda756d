/** What was worked out from a record, for as long as the record is as it was: a change makes another object. Pure. */
export class PerVersion<Record extends object, Result> {
  readonly #known = new WeakMap<Record, Result>();

  of(record: Record, work: (record: Record) => Result): Result {
    let result = this.#known.get(record);
    if (result === undefined) {
      result = work(record);
      this.#known.set(record, result);
    }
    return result;
  }
}
