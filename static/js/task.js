// <live-task>: follows one task's feed and reads its page anew when something has happened. The transcript and the diff
// look after themselves (they are skipped when the page is morphed).

import { feed } from "./feed.js";

const GATHER = 80;

class LiveTask extends HTMLElement {
  #timer = 0;

  connectedCallback() {
    this.topic = `task:${this.dataset.task}`;
    this.leave = feed.subscribe(this.topic, Number(this.dataset.cursor), {
      event: () => this.#note(),
      resync: (seq) => (this.#note(), seq),
    });
    document.addEventListener("acted", this); // the form that was sent may be gone already
    // On a phone the tabs are wider than the screen.
    this.querySelector(".tabs a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
    this.addEventListener("click", this);
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    document.removeEventListener("acted", this);
    this.leave();
  }

  handleEvent(event) {
    // What was sent is done: its form is closed and empty again.
    if (event.type === "acted") {
      for (const ask of this.querySelectorAll("details.ask[open]")) {
        ask.open = false;
        ask.querySelector("form")?.reset();
      }
      // The button that was pressed may be gone: whoever uses the keyboard goes on from what has changed.
      if (document.activeElement === document.body) this.querySelector("#now").focus({ preventScroll: true });
    } else if (event.target.closest("a[href^='?tab=']:not([hx-get])")) {
      event.preventDefault();
      this.#read(event.target.closest("a").getAttribute("href"), true);
    }
  }

  #note() {
    if (!this.#timer) this.#timer = setTimeout(() => this.#refresh(), GATHER);
  }

  #refresh() {
    this.#timer = 0;
    const section = this.querySelector("#task");
    // Who follows the task sees the tab that matters now, unless they are writing.
    const busy = section.querySelector("details.ask[open]") || section.contains(document.activeElement?.closest("textarea, input") ?? null);
    const chosen = new URLSearchParams(location.search).has("tab");
    const query = !chosen && busy ? `?tab=${section.dataset.tab}` : location.search;
    this.#read(query, false);
  }

  #read(query, push) {
    window.htmx.ajax("GET", this.dataset.url + query, { source: "#task", target: "#task", swap: "outerMorph", push: push ? "true" : null });
  }
}

customElements.define("live-task", LiveTask);
