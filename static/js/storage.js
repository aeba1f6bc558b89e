// <live-storage>: what a project takes. Followed by its feed and read anew when a checkout or kept work has changed; the form
// with the limits stands outside, so that what somebody writes there stays.

import { fragment, morph, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";

const GATHER = 150;
const TELLING = new Set(["workspace.updated", "kept.updated"]);

class LiveStorage extends HTMLElement {
  #refresh = new Refresh(() => this.#read(), GATHER);

  connectedCallback() {
    this.leave = feed.subscribe(`project:${this.dataset.project}`, Number(this.dataset.cursor), {
      event: (frame) => TELLING.has(frame.kind) && this.#refresh.note(),
      resync: (seq) => (this.#refresh.note(), seq),
    });
  }

  disconnectedCallback() {
    this.#refresh.stop();
    this.leave();
  }

  async #read() {
    const { content } = await fragment(this.dataset.url);
    morph(this.querySelector("#storage"), content.querySelector("#storage"));
    tick(this);
  }
}

customElements.define("live-storage", LiveStorage);
