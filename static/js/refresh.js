// What a page shows of the server is read again when there is news of it: a moment later, so that one reading answers several
// pieces of news; never twice at once, so that an old answer cannot overwrite a newer one; once more when news came while it
// was read; and after a failure until it succeeds, at growing distances.

const FIRST_RETRY = 1_000;
const LAST_RETRY = 60_000;

export class Refresh {
  #read;
  #gather;
  #timer = 0;
  #busy = false;
  #again = false;
  #stopped = false;
  #failures = 0;

  // `read`: reads and shows; what it raises counts as a failure. `gather`: milliseconds from the news to the reading.
  constructor(read, gather) {
    this.#read = read;
    this.#gather = gather;
  }

  // There is news. Whoever waits for the next try after a failure waits no longer.
  note(gather = this.#gather) {
    this.#stopped = false;
    if (this.#busy) this.#again = true;
    else if (!this.#timer || this.#failures) this.#in(gather);
  }

  // What is being read is still shown; nothing is read after it.
  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#stopped = true;
  }

  #in(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), wait);
  }

  async #run() {
    this.#timer = 0;
    this.#busy = true;
    this.#again = false;
    try {
      await this.#read();
      this.#failures = 0;
    } catch {
      this.#failures++;
      this.#again = true;
    }
    this.#busy = false;
    if (!this.#again || this.#stopped) return;
    this.#in(this.#failures ? Math.min(LAST_RETRY, FIRST_RETRY * 2 ** (this.#failures - 1)) : this.#gather);
  }
}
