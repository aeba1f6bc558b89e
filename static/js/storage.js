// <live-storage>: what a project takes. Followed by its feed and read anew when a checkout or kept work has changed; the form
// with the limits stands outside, so that what somebody writes there stays.

import { fragment, morph, tick } from "./dom.js";
import { feed } from "./feed.js";

const GATHER = 150;
const AGAIN = 2_000;
const TELLING = new Set(["workspace.updated", "kept.updated"]);

class LiveStorage extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.leave = feed.subscribe(`project:${this.dataset.project}`, Number(this.dataset.cursor), {
      event: (frame) => TELLING.has(frame.kind) && this.#soon(GATHER),
      resync: (seq) => (this.#soon(GATHER), seq),
    });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.leave();
  }

  #soon(wait) {
    this.#timer ||= setTimeout(() => this.#read(), wait);
  }

  async #read() {
    this.#timer = 0;
    try {
      const { content } = await fragment(this.dataset.url);
      if (!this.isConnected) return;
      morph(this.querySelector("#storage"), content.querySelector("#storage"));
      tick(this);
    } catch {
      if (this.isConnected) this.#soon(AGAIN);
    }
  }
}

customElements.define("live-storage", LiveStorage);
