// <live-setup>: how the setup and the dev server of a checkout stand. The workspace's topic tells of changes.

import { fragment, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";

const GATHER = 100; // milliseconds between a piece of news and the reading of it

class LiveSetup extends HTMLElement {
  #refresh = new Refresh(() => this.#read(), GATHER);
  #leave = null;

  // A morph may put the element into the page before its attributes and its content.
  connectedCallback() {
    queueMicrotask(() => this.isConnected && !this.#leave && this.#begin());
  }

  #begin() {
    document.addEventListener("setupchanged", this);
    this.addEventListener("click", this);
    const cursor = this.querySelector("data");
    if (cursor) this.#follow(Number(cursor.value));
    else this.#refresh.note(0); // it came with a morph, which leaves the content to this script
    tick(this);
  }

  disconnectedCallback() {
    this.#refresh.stop();
    document.removeEventListener("setupchanged", this);
    this.removeEventListener("click", this);
    this.#leave?.();
    this.#leave = null;
  }

  handleEvent(event) {
    if (event.type === "setupchanged") this.#refresh.note();
    else if (event.target.closest("a[data-log]") && location.pathname.startsWith("/tasks/")) {
      event.preventDefault();
      document.querySelector(".tabs a[href='?tab=commands']")?.click();
    }
  }

  #follow(cursor) {
    this.#leave ??= feed.subscribe(`workspace:${this.dataset.workspace}`, cursor, {
      event: () => this.#refresh.note(),
      resync: (seq) => (this.#refresh.note(), seq),
    });
  }

  async #read() {
    const { content } = await fragment(this.dataset.url);
    if (!this.isConnected) return;
    const focused = this.contains(document.activeElement) ? document.activeElement.closest("form")?.getAttribute("action") : null;
    const open = this.querySelector("details[open]") !== null;
    this.replaceChildren(...content.childNodes);
    window.htmx?.process(this);
    tick(this);
    if (open) this.querySelector("details")?.setAttribute("open", "");
    if (focused) (this.querySelector(`form[action="${focused}"] button`) ?? this.querySelector("button, a"))?.focus({ preventScroll: true });
    this.#follow(Number(this.querySelector("data")?.value ?? 0));
  }
}

customElements.define("live-setup", LiveSetup);
