// <live-projects>: the list of projects follows the feed of each, and is read anew when something has happened in one.

import { fragment, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";

const GATHER = 400; // a busy pipeline moves often; the counts need not follow each step
const MOST = 150; // topics: the server allows 200 a connection

class LiveProjects extends HTMLElement {
  #refresh = new Refresh(() => this.#read(), GATHER);
  #leave = [];

  connectedCallback() {
    this.#leave = [...this.querySelectorAll("[data-project]")].slice(0, MOST).map((project) =>
      feed.subscribe(`project:${project.dataset.project}`, Number(project.dataset.cursor), {
        event: () => this.#refresh.note(),
        resync: (seq) => (this.#refresh.note(), seq),
      }),
    );
  }

  disconnectedCallback() {
    this.#refresh.stop();
    for (const leave of this.#leave) leave();
  }

  async #read() {
    const { content } = await fragment(location.pathname);
    this.querySelector("ul").replaceWith(content.querySelector("ul"));
    tick(this);
  }
}

customElements.define("live-projects", LiveProjects);
