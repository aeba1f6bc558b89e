// <waiting-count>: how much waits for the person, over all projects, in the bar of every page. <live-waiting>: the list of it.
// Both are read again when the feed of a project says that something has begun or ceased to wait.

import { fragment, morph, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";

const GATHER = 500;
const TELLING = new Set(["ask.opened", "ask.closed", "task.moved", "run.state", "plan.ready", "task.created"]);

class WaitingCount extends HTMLElement {
  #refresh = new Refresh(() => this.#read(), GATHER);
  #leave = [];
  #back = () => feed.state === "on" && this.#soon("task.moved"); // what was missed meanwhile is not told again

  connectedCallback() {
    feed.addEventListener("state", this.#back);
    this.#refresh.note(0);
  }

  disconnectedCallback() {
    feed.removeEventListener("state", this.#back);
    this.#refresh.stop();
    for (const leave of this.#leave) leave();
    this.#leave = [];
  }

  #soon(kind) {
    if (TELLING.has(kind)) this.#refresh.note();
  }

  async #read() {
    const { content } = await fragment(this.dataset.url);
    const { value, dataset } = content.querySelector("data");
    const badge = this.querySelector(".count");
    badge.textContent = value;
    badge.hidden = value === "0";
    this.querySelector("a").setAttribute("aria-label", value === "0" ? "Waiting for you: nothing" : `Waiting for you: ${value}`);
    if (!this.#leave.length) this.#follow(dataset.projects.split(" ").filter(Boolean));
    document.dispatchEvent(new Event("waiting"));
  }

  #follow(projects) {
    const handlers = { event: (frame) => this.#soon(frame.kind), resync: (seq) => (this.#soon("task.moved"), seq) };
    this.#leave = projects.map((project) => feed.subscribe(`project:${project}`, null, handlers));
  }
}

class LiveWaiting extends HTMLElement {
  #refresh = new Refresh(() => this.#read(), 0);
  #again = () => this.#refresh.note();

  connectedCallback() {
    document.addEventListener("waiting", this.#again);
  }

  disconnectedCallback() {
    document.removeEventListener("waiting", this.#again);
    this.#refresh.stop();
  }

  async #read() {
    const { content } = await fragment(this.dataset.url);
    morph(this.querySelector("#waiting-list"), content.querySelector("#waiting-list"));
    tick(this);
  }
}

customElements.define("waiting-count", WaitingCount);
customElements.define("live-waiting", LiveWaiting);
