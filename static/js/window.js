// The part of a log that is in the page: stretches of entries, each one list that knows which numbers it covers. Reading on
// in one direction drops the stretches that are far away in the other; they are fetched again when somebody comes back.
// The log is laid out from its end (column-reverse): 0 is the end, and what grows above moves nothing.

import { fragment, tick } from "./dom.js";

const MOST = 500; // entries in the page
const ENOUGH = 350; // entries that are left after a tidying
const LIST = 100; // entries of a stretch that grows
const AHEAD = 1_200; // pixels before the edge of what is there, at which more is fetched
const MOVABLE = ".e-text, .e-reasoning, .e-tool_started, .e-tool_finished";
const STEP_ENDS = ".e-step_finished, .e-user, .e-error, .e-compacted, .e-turn_started, .e-turn_resumed, .e-turn_settled";

export class Window {
  #loading = false;
  #reached; // called when reading on has come to the end

  constructor(log, url, reached) {
    this.log = log;
    this.url = url;
    this.#reached = reached;
    this.roll = log.querySelector(".roll");
    this.writing = this.roll.querySelector(".writing");
    this.before = this.roll.querySelector(".earlier");
    this.toStart = this.roll.querySelector(".start");
    this.after = this.roll.querySelector(".later");
    this.atEnd = this.after.hidden;
  }

  get #lists() {
    return [...this.roll.querySelectorAll(":scope > .entries:not(.writing)")];
  }

  // The number up to which the log is in the page.
  get last() {
    return Number(this.#lists.at(-1).dataset.last);
  }

  get start() {
    return this.roll.querySelector(".e");
  }

  get #size() {
    return this.roll.querySelectorAll(".e").length;
  }

  // How much there is to scroll in each direction.
  room() {
    const below = -this.log.scrollTop;
    return { above: this.log.scrollHeight - this.log.clientHeight - below, below };
  }

  toEnd() {
    this.log.scrollTop = 0;
  }

  show(element) {
    element?.scrollIntoView({ block: "start" });
  }

  // Whether new entries are put in: always for whoever follows the end, else while there is room for them.
  takesMore(follows) {
    if (this.atEnd && !follows && this.#size > MOST) this.#end(false);
    return this.atEnd;
  }

  // ---- what is new

  append(list, follows) {
    this.#keep(() => {
      const entries = [...list.children];
      for (const entry of entries) this.#put(entry);
      const last = this.#lists.at(-1);
      last.dataset.last = Math.max(Number(last.dataset.last), Number(list.dataset.last));
      if (follows) this.#tidy((lists) => lists[0], "start");
    });
  }

  #put(entry) {
    if (entry.matches(".e-sub")) this.#putInGroup(entry);
    else this.#place(this.#open(entry), entry);
  }

  // The list that takes the entry: the last one, or a new one where a step begins and the last one is full.
  #open(entry) {
    const last = this.#lists.at(-1);
    const ended = last.lastElementChild?.matches(STEP_ENDS);
    if (!(last.childElementCount >= LIST && ended) || document.getElementById(entry.id)) return last;
    const list = document.createElement("ol");
    list.className = "entries";
    list.dataset.first = Number(last.dataset.last) + 1;
    list.dataset.last = last.dataset.last;
    last.after(list);
    return list;
  }

  // A sub-agent's entries stand together in each list.
  #putInGroup(fresh) {
    const entries = [...fresh.querySelectorAll(".sub > .e")];
    let group = [...this.#lists.at(-1).children].findLast((one) => one.dataset.sub === fresh.dataset.sub);
    if (!group && entries.some((entry) => !document.getElementById(entry.id) && !entry.matches("[data-elsewhere]"))) {
      fresh.querySelector(".sub").replaceChildren();
      this.#open(fresh).append(fresh);
      group = fresh;
    }
    for (const entry of entries) this.#place(group?.querySelector(".sub"), entry);
    const count = group?.querySelector(".sub").childElementCount;
    if (group) group.querySelector("summary .n").textContent = `${count} ${count === 1 ? "entry" : "entries"}`;
  }

  // A tool's end takes the place of its start. A text comes before the tools that the agent called after it, though the log
  // notes it when it has ended: parts are numbered by their beginning (sessions_app/transcripts.py does the same).
  #place(list, entry) {
    const old = document.getElementById(entry.id);
    if (old) {
      const details = entry.querySelector("details");
      if (details && old.querySelector("details")?.open) details.open = true;
      const focused = old.contains(document.activeElement);
      old.replaceWith(entry);
      if (focused) entry.querySelector("summary")?.focus({ preventScroll: true });
    } else if (!entry.matches("[data-elsewhere]")) {
      // The end of a tool whose start is no longer in the page stands where the tool began.
      list.insertBefore(entry, nextInStep(list, entry));
    }
    processed(entry);
  }

  // ---- reading back and forth

  fill(above, below) {
    if (above < AHEAD && !this.before.hidden) this.earlier();
    else if (below < AHEAD && !this.atEnd) this.later();
  }

  earlier() {
    return this.#load(`before=${this.#lists[0].dataset.first}`, (list, end) => {
      this.#lists[0].before(list);
      this.#begin(!end.dataset.earlier);
      if (this.#tidy((lists) => lists.at(-1), "end")) this.#end(false);
    });
  }

  later() {
    return this.#load(`from=${this.#lists.at(-1).dataset.last}`, (list, end) => {
      this.writing.before(list);
      this.#end(!end.dataset.full);
      this.#tidy((lists) => lists[0], "start");
      if (this.atEnd) this.#reached();
    });
  }

  replace(list, end) {
    for (const old of this.#lists) old.remove();
    this.writing.before(list);
    processed(list);
    this.#begin(!end.dataset.earlier);
    this.#end(!end.dataset.full);
  }

  async #load(query, put) {
    if (this.#loading) return;
    this.#loading = true;
    try {
      const { content } = await fragment(`${this.url}?${query}`);
      const list = content.querySelector(".entries");
      this.#keep(() => {
        // What is here already is newer: a tool's end outranks its start.
        for (const entry of list.querySelectorAll(".e[id]")) if (document.getElementById(entry.id)) entry.remove();
        put(list, content.querySelector("data"));
      });
      processed(list);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    this.#loading = false;
    const { above, below } = this.room();
    if (this.log.isConnected) requestAnimationFrame(() => this.fill(above, below));
  }

  #begin(there) {
    this.before.hidden = this.toStart.hidden = there;
    this.before.search = `?before=${this.#lists[0].dataset.first}`;
  }

  #end(there) {
    this.atEnd = this.after.hidden = there;
    this.after.search = `?after=${this.#lists.at(-1).dataset.last}`;
  }

  // Drop stretches on one side until there are few enough; never the one that is read in, nor the last that is left.
  #tidy(next, side) {
    let dropped = false;
    if (this.#size <= MOST) return dropped;
    for (let lists = this.#lists; lists.length > 1 && this.#size > ENOUGH; lists = this.#lists) {
      const list = next(lists);
      if (list.contains(document.activeElement) || this.#inView(list)) break;
      list.remove();
      dropped = true;
    }
    if (dropped && side === "start") this.#begin(false);
    return dropped;
  }

  #inView(list) {
    const box = list.getBoundingClientRect();
    const view = this.log.getBoundingClientRect();
    return box.bottom > view.top - view.height && box.top < view.bottom + view.height;
  }

  // Whatever changes above or below: what one reads stays where it is.
  #keep(change) {
    const top = this.log.getBoundingClientRect().top;
    const mark = this.log.scrollTop < -1 ? [...this.roll.querySelectorAll(":scope > .entries > .e")].find((entry) => entry.getBoundingClientRect().bottom > top) : null;
    const was = mark?.getBoundingClientRect().top;
    change();
    if (mark?.isConnected) this.log.scrollTop += mark.getBoundingClientRect().top - was;
  }
}

function processed(element) {
  window.htmx?.process(element);
  tick(element);
}

function nextInStep(list, entry) {
  const part = entry.dataset.part;
  let before = null;
  if (!part || !entry.matches(MOVABLE)) return before;
  for (let other = list.lastElementChild; other && !other.matches(STEP_ENDS); other = other.previousElementSibling) {
    const its = other.matches(MOVABLE) ? other.dataset.part : "";
    if (its?.length === part.length && its > part) before = other;
  }
  return before;
}
