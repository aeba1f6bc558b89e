// <live-transcript>: follows a session. An event says that the log has grown: the rendered entries after our cursor are
// fetched and put in. A delta is appended as plain text at once; the finished part replaces it.
// What is in the page is a window on the log (window.js): a log of any length takes the same memory.

import { Composer } from "./composer.js";
import { fragment, morph, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Window } from "./window.js";

const GATHER = 120; // milliseconds between two fetches
const NEAR = 60; // this close to the end counts as being there
const SKIP = 400; // this many entries behind, a reader who follows is shown the end at once
const TEXT_LIMIT = 200_000; // of one part that is being written
const HIDDEN = new Set(["todo", "file.edited", "tool.finished"]); // no entries of their own

class LiveTranscript extends HTMLElement {
  #timer = 0;
  #busy = false;
  #wanted = 0; // the highest number that an event named
  #anew = false; // whether what is shown may be old, whatever was named
  #live = new Map(); // part -> its text node, and how long it is
  #follows = true; // the end stays in view
  #new = 0; // entries that came since it did not
  #heard = Date.now();
  #beat = 0;
  leave = null; // ends the subscription
  #listening = new AbortController();

  // A morph may put the element into the page before its attributes and its content.
  connectedCallback() {
    queueMicrotask(() => this.isConnected && !this.leave && this.#begin());
  }

  #begin() {
    this.log = this.querySelector(".log");
    this.writing = this.querySelector(".writing");
    this.button = this.querySelector(".latest");
    this.news = this.querySelector(".news");
    this.cursor = Number(this.dataset.cursor);
    this.topic = `session:${this.dataset.session}`;
    this.window = new Window(this.log, this.dataset.url, () => this.#soon());
    this.composer = new Composer(this, (content) => this.#around(content));
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true, signal });
    this.addEventListener("click", (event) => this.#clicked(event), { signal });
    this.composer.listen(signal);
    this.leave = feed.subscribe(this.topic, this.cursor, {
      event: (frame) => this.#note(frame),
      delta: (frame) => this.#write(frame),
      resync: (seq) => this.#catchUp(seq),
    });
    this.#beat = setInterval(() => this.#listen(), 1_000);
    this.#follows = this.window.atEnd;
    requestAnimationFrame(() => {
      const turn = document.getElementById(location.hash.slice(1));
      if (location.hash && turn && this.contains(turn)) this.window.show(turn);
      else if (this.#follows) this.#toEnd();
      this.#scrolled();
    });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    clearInterval(this.#beat);
    this.#timer = 0;
    this.#listening.abort();
    if (!this.leave) return;
    this.leave();
    this.leave = null;
    this.dataset.cursor = this.cursor; // it may only have been moved
  }

  // ---- what comes

  #note(frame) {
    this.#heard = Date.now();
    this.#wanted = Math.max(this.#wanted, frame.seq);
    if (!this.#follows && !HIDDEN.has(frame.kind)) this.#count(1);
    this.#soon();
  }

  #soon() {
    const news = this.#anew || this.#wanted > this.#seen;
    if (news && !this.#timer && !this.#busy) this.#timer = setTimeout(() => this.#fetch(), GATHER);
  }

  // Up to where everything is known: entries for whoever is at the end, else what stands around them.
  get #seen() {
    return this.window.atEnd ? this.window.last : this.cursor;
  }

  async #catchUp(seq) {
    this.#wanted = Math.max(this.#wanted, seq);
    this.#anew = true;
    this.#forget([...this.#live.keys()]);
    if (!this.#busy) await this.#fetch();
    return this.cursor;
  }

  async #fetch() {
    const anew = this.#anew;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#busy = true;
    this.#anew = false;
    try {
      if (!this.window.takesMore(this.#follows)) await this.#lookAround();
      else if (this.#follows && this.#wanted - this.window.last > SKIP) await this.#jump("");
      else await this.#next();
    } catch {
      this.#anew ||= anew;
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    this.#busy = false;
    if (this.isConnected) this.#soon();
  }

  async #next() {
    const asked = this.#wanted; // the answer has all that was named until now, and perhaps nothing of what is named meanwhile
    const { content } = await fragment(`${this.dataset.url}?after=${this.window.last}`);
    const end = content.querySelector("data");
    this.#around(content);
    this.#forget([...content.querySelectorAll("li.e[data-part]")].map((entry) => entry.dataset.part));
    this.window.append(content.querySelector(".entries"), this.#follows);
    this.#moved(end);
    if (end.dataset.full) this.#wanted = Math.max(this.#wanted, Number(end.dataset.head));
    else if (this.#wanted === asked) this.#wanted = Math.min(asked, this.#seen);
    this.#grown();
  }

  // Whoever reads far above sees what waits and where the agent is, but not the new entries.
  async #lookAround() {
    const { content } = await fragment(`${this.dataset.url}?after=${this.cursor}&around=1`);
    this.#around(content);
    this.#moved(content.querySelector("data"));
    this.#grown();
  }

  #moved(end) {
    this.cursor = Math.max(this.cursor, Number(end.value));
  }

  #around(content) {
    const state = this.querySelector(".shead").dataset.state;
    for (const name of [".shead", ".todo", ".pending"]) morph(this.querySelector(name), content.querySelector(name));
    const head = this.querySelector(".shead");
    this.toggleAttribute("data-busy", head.hasAttribute("data-busy"));
    this.composer.busy(head.hasAttribute("data-busy"));
    if (head.dataset.state !== state) this.news.textContent = head.dataset.state;
    tick(this);
  }

  // A null voids what was shown of the part: the agent begins it again.
  #write(frame) {
    this.#heard = Date.now();
    if (!this.#follows || document.getElementById(`e-${frame.part}`)) return;
    if (frame.text === null) {
      this.#forget([frame.part]);
      return;
    }
    let one = this.#live.get(frame.part);
    if (!one) {
      const entry = document.createElement("li");
      entry.className = "e e-live";
      const body = document.createElement("div");
      body.className = "md";
      one = document.createTextNode("");
      body.append(one);
      entry.append(body);
      this.writing.append(entry);
      this.#live.set(frame.part, one);
    }
    if (one.length < TEXT_LIMIT) one.appendData(frame.text);
    this.#grown();
  }

  #forget(parts) {
    for (const part of parts) {
      this.#live.get(part)?.parentElement.parentElement.remove();
      this.#live.delete(part);
    }
  }

  // No answer of the model for long: said while nothing else, such as a command, is what everybody waits for.
  #listen() {
    const note = this.querySelector(".silent");
    const head = this.querySelector(".shead");
    const since = Math.max(Number(head.dataset.heard ?? 0) * 1_000, this.#heard);
    const waits = head.dataset.heard && !this.log.querySelector(".roll > .entries:nth-last-of-type(-n + 3) .is-running");
    note.hidden = !waits || Date.now() - since < Number(this.dataset.silent) * 1_000;
    const time = note.querySelector("time");
    if (time && !note.hidden) time.dataset.run = Math.floor(since / 1_000);
  }

  // ---- where one reads

  async #clicked(event) {
    const link = event.target.closest("a.earlier, a.later, a.start, a.latest, a[data-turn]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.matches(".earlier")) await this.window.earlier();
    else if (link.matches(".later")) await this.window.later();
    else if (link.matches(".latest") && this.window.atEnd) this.#toEnd();
    else if (link.matches(".latest")) await this.#jump("");
    else if (link.matches(".start")) await this.#jump("?from=0");
    else await this.#jump(`?turn=${link.dataset.turn}`, `turn-${link.dataset.turn}`);
  }

  // Another stretch in place of everything: the end, the start, or the one that begins with a turn.
  async #jump(query, anchor = "") {
    const { content } = await fragment(this.dataset.url + query);
    const end = content.querySelector("data");
    this.#around(content);
    this.#forget([...this.#live.keys()]);
    this.window.replace(content.querySelector(".entries"), end);
    this.cursor = Math.max(this.cursor, Number(end.dataset.head));
    if (!query) this.#toEnd();
    else {
      this.#follows = false;
      this.window.show(anchor ? document.getElementById(anchor) : this.window.start);
      this.button.hidden = false;
    }
    closeMenus(this);
    this.log.focus({ preventScroll: true });
  }

  #scrolled() {
    const { above, below } = this.window.room();
    this.#follows = this.window.atEnd && below < NEAR;
    if (this.#follows) this.#count(-this.#new);
    this.button.hidden = this.#follows;
    this.window.fill(above, below);
  }

  #grown() {
    if (this.#follows) this.#toEnd();
    else this.button.hidden = false;
  }

  #toEnd() {
    this.window.toEnd();
    this.#follows = true;
    this.#count(-this.#new);
    this.button.hidden = true;
  }

  #count(more) {
    this.#new += more;
    this.button.querySelector("span").textContent = this.#new ? `${this.#new} new` : "Jump to latest";
  }
}

function closeMenus(root) {
  for (const menu of root.querySelectorAll("details[data-menu][open]")) menu.open = false;
}

customElements.define("live-transcript", LiveTranscript);
