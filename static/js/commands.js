// <live-commands>: the commands of one checkout. The workspace's topic tells of new ones, each running command's own topic of
// its state and of its output. A delta names the bytes it stands for ("120-164"): what is missing is fetched by the cursor.

import { flash, fragment, tick } from "./dom.js";
import { feed } from "./feed.js";
import { Refresh } from "./refresh.js";

const GATHER = 120; // milliseconds between a piece of news and the reading of the list
const POLL = 3_000; // without news the running commands are looked at this often: the live connection may be away
const BEHIND = 300_000; // bytes; whoever is further behind gets the end of the output
const END = 64_000;
const KEPT = 400_000; // characters of one output that stay on the page
const NEAR = 24; // pixels from the end that count as being there

// The output of one command in its <pre>: finished lines as text, the last line apart because it may be written anew.
class Output {
  #busy = false;
  #again = false;

  constructor(row) {
    this.row = row;
    this.pre = row.querySelector("pre.out");
    this.next = Number(row.dataset.next);
    const text = this.pre.textContent;
    const cut = text.lastIndexOf("\n") + 1;
    this.current = document.createTextNode(text.slice(cut));
    this.pre.replaceChildren(document.createTextNode(text.slice(0, cut)), this.current);
    this.pre.scrollTop = this.pre.scrollHeight;
  }

  get #stuck() {
    return this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < NEAR;
  }

  // Where it is scrolled to; at its end it stays there, however long it becomes.
  get place() {
    return this.#stuck ? Number.MAX_SAFE_INTEGER : this.pre.scrollTop;
  }

  add(text) {
    const stuck = this.#stuck;
    const lines = (this.current.data + text).split("\n").map((line) => line.slice(line.lastIndexOf("\r", line.length - 2) + 1));
    this.current.data = lines.pop(); // it may end with the sign that it is written anew
    if (lines.length) this.current.before(document.createTextNode(`${lines.join("\n")}\n`));
    let size = this.pre.textContent.length;
    while (size > KEPT && this.pre.firstChild !== this.current) {
      size -= this.pre.firstChild.data.length;
      this.pre.firstChild.remove();
    }
    if (stuck) this.pre.scrollTop = this.pre.scrollHeight;
  }

  delta(part, text) {
    const [start, next] = part.split("-").map(Number);
    if (start === this.next && !this.#busy) {
      this.next = next;
      this.add(text);
    } else if (next > this.next) this.read();
  }

  // Read on until nothing is missing; the state that the server gave with the last piece.
  async read() {
    if (this.#busy) {
      this.#again = true;
      return "";
    }
    this.#busy = true;
    let state = "";
    try {
      do {
        this.#again = false;
        const piece = await this.#fetch();
        state = piece.state;
        if (piece.skipped) this.add(`\n[${piece.skipped.toLocaleString()} bytes are left out here]\n`);
        this.add(piece.text);
        const moved = piece.next > this.next;
        this.next = piece.next;
        if (piece.more && moved) this.#again = true;
      } while (this.#again && this.pre.isConnected);
    } catch {
      // The next piece of news, or the next poll, tries again.
    }
    this.#busy = false;
    return state;
  }

  async #fetch() {
    const piece = await this.#ask(this.next);
    if (piece.total - piece.next < BEHIND) return piece;
    const end = await this.#ask(piece.total - END);
    return { ...end, skipped: end.start - this.next };
  }

  async #ask(after) {
    const response = await fetch(`/api/v1/commands/${this.row.dataset.command}/output?after=${after}`, {
      credentials: "same-origin",
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(30_000),
    });
    if (!response.ok) throw new Error(String(response.status));
    return response.json();
  }
}

class LiveCommands extends HTMLElement {
  #outputs = new Map(); // command -> its Output
  #leave = new Map(); // topic -> what ends its subscription
  #refresh = new Refresh(() => this.#list(), GATHER);
  #poll = 0;
  #heard = 0;
  #all = false;

  // A morph may put the element into the page before its attributes and its content.
  connectedCallback() {
    queueMicrotask(() => this.isConnected && !this.#poll && this.#begin());
  }

  #begin() {
    this.list = this.querySelector(".cmdlist");
    this.addEventListener("commandschanged", this);
    this.addEventListener("click", this);
    this.list.addEventListener("toggle", this, true);
    this.#follow(`workspace:${this.dataset.workspace}`, Number(this.dataset.cursor), {
      event: () => this.#note(),
      resync: (seq) => (this.#note(), seq),
    });
    this.#poll = setInterval(() => this.#look(), POLL);
    this.#take();
  }

  disconnectedCallback() {
    this.#refresh.stop();
    clearInterval(this.#poll);
    this.#poll = 0;
    this.removeEventListener("commandschanged", this);
    this.removeEventListener("click", this);
    this.list?.removeEventListener("toggle", this, true);
    for (const leave of this.#leave.values()) leave();
    this.#leave.clear();
    this.#outputs.clear();
  }

  handleEvent(event) {
    if (event.type === "commandschanged") {
      this.#note();
    } else if (event.type === "toggle") {
      const row = event.target.closest("li.cmd");
      if (event.target.open && row?.querySelector(".fetched")) this.#read(row);
    } else if (event.target.closest("[data-all]")) {
      this.#all = true;
      this.#note();
    } else if (event.target.closest(".fetched a")) {
      event.preventDefault();
      this.#read(event.target.closest("li.cmd"));
    }
  }

  #follow(topic, cursor, handlers) {
    if (!this.#leave.has(topic)) this.#leave.set(topic, feed.subscribe(topic, cursor, handlers));
  }

  #note() {
    this.#heard = Date.now();
    this.#refresh.note();
  }

  // What the list on the page says: which outputs are there, and which commands are to be followed.
  #take() {
    const active = new Set();
    for (const row of this.list.querySelectorAll("li.cmd")) {
      const id = row.dataset.command;
      if (row.querySelector("pre.out") && !this.#outputs.has(id)) this.#outputs.set(id, new Output(row));
      if (!row.hasAttribute("data-active")) continue;
      active.add(`command:${id}`);
      this.#follow(`command:${id}`, Number(row.dataset.cursor), {
        event: () => this.#note(),
        delta: (frame) => {
          this.#heard = Date.now();
          this.#outputs.get(id)?.delta(frame.part, frame.text);
        },
        resync: (seq) => (this.#note(), seq),
      });
    }
    for (const [topic, leave] of this.#leave) {
      if (topic.startsWith("workspace:") || active.has(topic)) continue;
      leave();
      this.#leave.delete(topic);
    }
    this.#badge(active.size);
    tick(this);
  }

  // The task page's tab says how many run.
  #badge(running) {
    const tab = document.querySelector(".tabs a[href='?tab=commands']");
    if (!tab) return;
    tab.querySelector(".count")?.remove();
    if (running) tab.append(" ", Object.assign(document.createElement("span"), { className: "count", textContent: `${running} running` }));
  }

  async #list() {
    const { content } = await fragment(`${this.dataset.url}${this.#all ? "?all=1" : ""}`);
    if (this.isConnected) this.#put(content);
  }

  // Every row is written anew, but what people have opened and the output that they read stay where they are.
  #put(content) {
    const focused = document.activeElement;
    const list = this.list.querySelector(".cmds");
    const places = [...this.#outputs.values()].map((output) => [output.pre, output.place]);
    const rows = [...content.querySelectorAll("li.cmd")].map((row) => {
      const old = document.getElementById(row.id);
      if (old) {
        row.querySelector("details").open = old.querySelector("details").open;
        this.#keep(row);
      }
      return row;
    });
    list.replaceChildren(...rows);
    rows.forEach((row) => window.htmx?.process(row));
    for (const [pre, place] of places) pre.scrollTop = place; // what is moved begins at its top again
    this.list.querySelector(".cmdmore")?.remove();
    const more = content.querySelector(".cmdmore");
    if (more) list.after(more);
    for (const id of this.#outputs.keys()) if (!document.getElementById(`cmd-${id}`)) this.#outputs.delete(id);
    this.#take();
    for (const row of rows) this.#outputs.get(row.dataset.command)?.read();
    // Whoever uses the keyboard goes on from where they were, or from what took its place.
    if (focused !== document.body && !focused.isConnected) {
      const near = focused.closest("li.cmd");
      document.getElementById(near?.id)?.querySelector("summary")?.focus({ preventScroll: true });
    }
  }

  #keep(row) {
    const output = this.#outputs.get(row.dataset.command);
    if (!output) return;
    const place = row.querySelector("pre.out") ?? row.querySelector(".fetched");
    if (!place) {
      this.#outputs.delete(row.dataset.command); // it is not kept any more
      return;
    }
    row.dataset.next = output.next;
    output.row = row;
    place.replaceWith(output.pre);
  }

  async #read(row) {
    try {
      const { content } = await fragment(`/commands/${row.dataset.command}/`);
      const fresh = content.querySelector("li.cmd");
      row.replaceWith(fresh);
      window.htmx?.process(fresh);
      this.#take();
      fresh.querySelector("summary").focus({ preventScroll: true });
    } catch (error) {
      flash(error.message);
    }
  }

  // The live connection may be away, or nobody may watch the commands: then this finds what is new.
  async #look() {
    if (document.hidden || Date.now() - this.#heard < POLL) return;
    const rows = this.list.querySelectorAll("li.cmd[data-active]");
    for (const row of rows) {
      const state = await this.#outputs.get(row.dataset.command)?.read();
      if (state && !row.classList.contains(`c-${state}`)) this.#note();
    }
    if (rows.length && feed.state !== "on") this.#note();
  }
}

customElements.define("live-commands", LiveCommands);
