// <live-transcript>: follows a session. An event says that the log has grown: the rendered entries after our cursor are
// fetched and put in. A delta is appended as plain text at once; the finished part replaces it.

import { fragment, tick } from "./dom.js";
import { feed } from "./feed.js";

const GATHER = 120; // milliseconds between two fetches
const NEAR = 60; // this close to the bottom counts as being there
const TEXT_LIMIT = 200_000; // of one part that is being written

class LiveTranscript extends HTMLElement {
  #timer = 0;
  #busy = false;
  #wanted = 0; // the highest number that an event named
  #live = new Map(); // part -> its element
  #stuck = true;
  leave = null; // ends the subscription
  #listening = new AbortController();

  // A morph may put the element into the page before its attributes and its content.
  connectedCallback() {
    queueMicrotask(() => this.isConnected && !this.leave && this.#begin());
  }

  #begin() {
    this.log = this.querySelector(".log");
    this.entries = this.querySelector(".entries");
    this.writing = this.querySelector(".writing");
    this.button = this.querySelector(".latest");
    this.cursor = Number(this.dataset.cursor);
    this.topic = `session:${this.dataset.session}`;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true, signal });
    this.button.addEventListener("click", () => this.#toBottom(), { signal });
    this.querySelector(".earlier").addEventListener("click", (event) => this.#earlier(event.currentTarget), { signal });
    this.leave = feed.subscribe(this.topic, this.cursor, {
      event: (frame) => this.#note(frame.seq),
      delta: (frame) => this.#write(frame),
      resync: (seq) => this.#catchUp(seq),
    });
    requestAnimationFrame(() => this.#toBottom());
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#listening.abort();
    if (!this.leave) return;
    this.leave();
    this.leave = null;
    this.dataset.cursor = this.cursor; // it may only have been moved
  }

  #note(seq) {
    this.#wanted = Math.max(this.#wanted, seq);
    if (!this.#timer && !this.#busy) this.#timer = setTimeout(() => this.#fetch(), GATHER);
  }

  async #catchUp(seq) {
    this.#wanted = Math.max(this.#wanted, seq);
    this.#forget([...this.#live.keys()]);
    await this.#fetch();
    return this.cursor;
  }

  async #fetch() {
    this.#timer = 0;
    this.#busy = true;
    try {
      const { content } = await fragment(`${this.dataset.url}?after=${this.cursor}`);
      const end = content.querySelector("data");
      this.#put(content);
      this.cursor = Math.max(this.cursor, Number(end.value));
      if (end.dataset.full) this.#wanted = Math.max(this.#wanted, this.cursor + 1);
      else this.#wanted = Math.min(this.#wanted, this.cursor);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    this.#busy = false;
    if (this.#wanted > this.cursor && this.isConnected) this.#note(this.#wanted);
  }

  #put(content) {
    for (const entry of content.querySelectorAll("li.e")) {
      const old = document.getElementById(entry.id);
      this.#forget([entry.id.replace(/^e-/, "")]);
      if (old) {
        const details = entry.querySelector("details");
        if (details && old.querySelector("details")?.open) details.open = true;
        old.replaceWith(entry);
      } else this.entries.append(entry);
      window.htmx?.process(entry);
    }
    this.querySelector(".shead").replaceWith(content.querySelector(".shead"));
    const todo = content.querySelector(".todo");
    todo.open = this.querySelector(".todo").open;
    this.querySelector(".todo").replaceWith(todo);
    tick(this);
    this.#grown();
  }

  // A null voids what was shown of the part: the agent begins it again.
  #write(frame) {
    if (document.getElementById(`e-${frame.part}`)) return;
    if (frame.text === null) {
      this.#forget([frame.part]);
      return;
    }
    let element = this.#live.get(frame.part);
    if (!element) {
      const entry = document.createElement("li");
      entry.className = "e e-live";
      element = document.createElement("div");
      element.className = "md";
      entry.append(element);
      this.writing.append(entry);
      this.#live.set(frame.part, element);
    }
    if (element.textContent.length < TEXT_LIMIT) element.append(frame.text);
    this.#grown();
  }

  #forget(parts) {
    for (const part of parts) {
      this.#live.get(part)?.parentElement.remove();
      this.#live.delete(part);
    }
  }

  async #earlier(button) {
    button.disabled = true;
    try {
      const { content } = await fragment(`${this.dataset.url}?before=${this.dataset.first}`);
      const end = content.querySelector("data");
      const height = this.log.scrollHeight - this.log.scrollTop;
      // What is here already is newer: a tool's end outranks its start.
      const entries = [...content.querySelectorAll("li.e")].filter((entry) => !document.getElementById(entry.id));
      this.entries.prepend(...entries);
      entries.forEach((entry) => window.htmx?.process(entry));
      this.dataset.first = end.dataset.first;
      button.hidden = !end.dataset.earlier;
      this.log.scrollTop = this.log.scrollHeight - height;
    } finally {
      button.disabled = false;
    }
  }

  #scrolled() {
    this.#stuck = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR;
    if (this.#stuck) this.button.hidden = true;
  }

  #grown() {
    if (this.#stuck) this.#toBottom();
    else this.button.hidden = false;
  }

  #toBottom() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#stuck = true;
    this.button.hidden = true;
  }
}

customElements.define("live-transcript", LiveTranscript);
