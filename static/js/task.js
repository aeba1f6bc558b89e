// <live-task>: follows one task's feed and reads its page anew when something has happened. The transcript and the diff
// look after themselves (they are skipped when the page is morphed).

import { fragment, morph, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";
import { isWrittenIn } from "./words.js";

const GATHER = 80;

class LiveTask extends HTMLElement {
  #refresh = new Refresh(() => this.#look(), GATHER);

  connectedCallback() {
    this.topic = `task:${this.dataset.task}`;
    this.leave = feed.subscribe(this.topic, Number(this.dataset.cursor), {
      event: () => this.#refresh.note(),
      resync: (seq) => (this.#refresh.note(), seq),
    });
    document.addEventListener("acted", this); // the form that was sent may be gone already
    // On a phone the tabs are wider than the screen.
    this.querySelector(".tabs a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
    this.addEventListener("click", this);
    this.addEventListener("reset", this);
  }

  disconnectedCallback() {
    this.#refresh.stop();
    document.removeEventListener("acted", this);
    this.leave();
  }

  handleEvent(event) {
    // What was sent is done, and its form is empty again (words.js). A form that has words of somebody stays open.
    if (event.type === "acted") {
      for (const ask of this.querySelectorAll("details.ask[open]")) ask.open = isWrittenIn(ask);
      // The button that was pressed may be gone: whoever uses the keyboard goes on from what has changed.
      if (document.activeElement === document.body) this.querySelector("#now").focus({ preventScroll: true });
    } else if (event.type === "reset") this.#refresh.note(); // whoever discards their words sees what is true
    else if (event.target.closest("a[href^='?tab=']:not([hx-get])")) {
      event.preventDefault();
      this.#open(event.target.closest("a").getAttribute("href"));
    }
  }

  async #look() {
    const section = this.querySelector("#task");
    // Who follows the task sees the tab that matters now, unless they are writing.
    const busy = section.querySelector("details.ask[open]") || section.contains(document.activeElement?.closest("textarea, input") ?? null);
    const chosen = new URLSearchParams(location.search).has("tab");
    const query = !chosen && busy ? `?tab=${section.dataset.tab}` : location.search;
    const [place, tab] = [location.href, section.dataset.tab];
    const { content } = await fragment(this.dataset.url + query);
    // Who has opened another tab meanwhile stays there.
    if (location.href !== place || this.querySelector("#task").dataset.tab !== tab) return this.#refresh.note();
    morph(this.querySelector("#task"), content.querySelector("#task"));
    tick(this);
  }

  #open(query) {
    window.htmx.ajax("GET", this.dataset.url + query, { source: "#task", target: "#task", swap: "outerMorph", push: "true" });
  }
}

customElements.define("live-task", LiveTask);
