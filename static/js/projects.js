// <live-projects>: the list of projects follows the feed of each, and is read anew when something has happened in one.

import { fragment, tick } from "./dom.js";
import { feed } from "./feed.js";

const GATHER = 400; // a busy pipeline moves often; the counts need not follow each step
const MOST = 150; // topics: the server allows 200 a connection

class LiveProjects extends HTMLElement {
  #timer = 0;
  #leave = [];

  connectedCallback() {
    this.#leave = [...this.querySelectorAll("[data-project]")].slice(0, MOST).map((project) =>
      feed.subscribe(`project:${project.dataset.project}`, Number(project.dataset.cursor), {
        event: () => (this.#timer ||= setTimeout(() => this.#read(), GATHER)),
      }),
    );
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    for (const leave of this.#leave) leave();
  }

  async #read() {
    this.#timer = 0;
    try {
      const { content } = await fragment(location.pathname);
      this.querySelector("ul").replaceWith(content.querySelector("ul"));
      tick(this);
    } catch {
      this.#timer = setTimeout(() => this.#read(), 2_000);
    }
  }
}

customElements.define("live-projects", LiveProjects);
