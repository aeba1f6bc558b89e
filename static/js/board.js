// The board: <live-board> follows its project's feed. An event names a task; its card and the counts are fetched anew.

import { flash, fragment, settleFlashes, tick } from "./dom.js";
import { feed } from "./feed.js";
import { openDialog } from "./app.js";

const GATHER = 60; // milliseconds in which events are gathered into one request
const MANY = 30; // more changed cards than this: the whole board is read again
const narrow = matchMedia("(max-width: 719px)");

class LiveBoard extends HTMLElement {
  #changed = new Set();
  #timer = 0;
  #busy = false;

  connectedCallback() {
    this.topic = `project:${this.dataset.project}`;
    this.leave = feed.subscribe(this.topic, Number(this.dataset.cursor), {
      event: (frame) => frame.data.key && this.#note(frame.data.key),
      resync: () => this.refresh(),
    });
    this.addEventListener("submit", this);
    this.addEventListener("keydown", this);
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.leave();
  }

  handleEvent(event) {
    if (event.type === "submit") this.#act(event);
    else this.#walk(event);
  }

  #note(key) {
    this.#changed.add(key);
    if (!this.#timer && !this.#busy) this.#timer = setTimeout(() => this.#flush(), GATHER);
  }

  async #flush() {
    this.#timer = 0;
    this.#busy = true;
    const keys = [...this.#changed];
    this.#changed.clear();
    try {
      if (keys.length > MANY) await this.refresh();
      else await this.#fetchCards(keys);
    } catch {
      keys.forEach((key) => this.#changed.add(key)); // tried again below, or at the next event
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    this.#busy = false;
    if (this.#changed.size && this.isConnected) this.#timer = setTimeout(() => this.#flush(), GATHER);
  }

  async #fetchCards(keys) {
    const url = new URL(this.dataset.cards, location.href);
    for (const key of keys) url.searchParams.append("key", key);
    for (const [name, value] of new URLSearchParams(location.search)) if (name === "q" || name === "state") url.searchParams.append(name, value);
    const { content } = await fragment(url);
    this.apply(content, keys);
  }

  // Put the cards of `keys` where they belong now; a card that the answer lacks is not on this board any more.
  apply(content, keys) {
    const focused = document.activeElement?.closest?.(".card")?.id;
    const cards = new Map([...content.querySelectorAll(".card")].map((card) => [card.id, card]));
    for (const key of keys) {
      const id = `card-${key}`;
      const old = document.getElementById(id);
      const card = cards.get(id);
      const before = old?.closest(".col")?.id;
      if (card && old && before === `col-${card.dataset.col}` && old.dataset.o === card.dataset.o) old.replaceWith(card);
      else {
        old?.remove();
        if (card) this.#insert(card, before);
      }
      if (card) window.htmx?.process(card);
      this.#announce(key, card, old);
    }
    this.#count(content);
    if (focused) document.querySelector(`#${CSS.escape(focused)} a`)?.focus({ preventScroll: true });
    tick(this);
  }

  #insert(card, before) {
    const column = document.getElementById(`col-${card.dataset.col}`);
    if (!column) return;
    const list = column.querySelector(".cards");
    const place = [...list.children].find((other) => Number(other.dataset.o) > Number(card.dataset.o));
    // Below the last card that is shown the order is only known to the server: "Show more" brings it.
    if (!place && column.querySelector(".more")) return;
    list.insertBefore(card, place ?? null);
    if (before !== column.id) card.classList.add("arrived");
  }

  // Said aloud: only what somebody must look at, and only when it is new.
  #announce(key, card, old) {
    const words = card?.matches(".t-amber, .t-red") && card.querySelector(".mark span").textContent;
    if (words && words !== old?.querySelector(".mark span")?.textContent) {
      this.querySelector("#announce").textContent = `${key}: ${words}`;
    }
  }

  #count(content) {
    for (const one of content.querySelectorAll("data[data-count]")) {
      for (const element of document.querySelectorAll(`[data-n="${one.dataset.count}"]`)) element.textContent = one.value;
      document.getElementById(`col-${one.dataset.count}`)?.classList.toggle("is-empty", one.value === "0");
      for (const tab of this.querySelectorAll(`.switch a[data-to="${one.dataset.count}"]`)) tab.classList.toggle("needs", one.dataset.needs === "1");
    }
  }

  // The whole board again, where it is: after a long break, or when very much has changed.
  async refresh() {
    const { content } = await fragment(location.href);
    const board = content.querySelector("live-board");
    this.replaceChildren(...board.childNodes);
    window.htmx?.process(this);
    tick(this);
    return Number(board.dataset.cursor);
  }

  // The buttons on cards: the answer carries the card as it is now.
  async #act(event) {
    const button = event.submitter;
    const card = button?.closest(".card");
    if (!card) return;
    event.preventDefault();
    button.disabled = true;
    try {
      const { content } = await fragment(button.formAction, { method: "POST", body: new FormData(event.target) });
      for (const box of content.querySelectorAll(".flash")) document.getElementById("flashes").append(box);
      settleFlashes();
      this.apply(content, [card.id.slice("card-".length)]);
    } catch (error) {
      button.disabled = false;
      flash(error.message);
    }
  }

  // Arrow keys walk over the cards, within a column and across.
  #walk(event) {
    const step = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0] }[event.key];
    const card = event.target.closest?.(".card");
    if (!step || !card || event.target.matches("input, textarea")) return;
    event.preventDefault();
    if (step[1]) {
      const next = step[1] > 0 ? card.nextElementSibling : card.previousElementSibling;
      next?.querySelector("a")?.focus();
      return;
    }
    const columns = [...this.querySelectorAll(".col")].filter((column) => column.querySelector(".card"));
    const at = columns.indexOf(card.closest(".col"));
    const row = [...card.parentElement.children].indexOf(card);
    const cards = columns[at + step[0]]?.querySelectorAll(".card");
    if (cards) cards[Math.min(row, cards.length - 1)].querySelector("a").focus();
  }
}

customElements.define("live-board", LiveBoard);

// ---- phone: one column at a time; the chosen one stands in the address

document.addEventListener("click", (event) => {
  const tab = event.target.closest(".switch a[data-to]");
  if (!tab) return;
  event.preventDefault();
  const board = tab.closest("live-board");
  board.dataset.column = tab.dataset.to;
  for (const other of board.querySelectorAll(".switch a")) other.toggleAttribute("aria-current", other === tab);
  tab.scrollIntoView({ inline: "center", block: "nearest", behavior: "smooth" });
  const url = new URL(location.href);
  url.searchParams.set("column", tab.dataset.to);
  history.replaceState(history.state, "", url);
});

if (narrow.matches) document.querySelector(".switch a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// ---- create: the dialog stays open for the next task only when asked to

const dialog = document.getElementById("create");
dialog?.addEventListener("close", () => dialog.querySelector(".wrong")?.remove());
document.addEventListener("htmx:after:swap", () => {
  const done = dialog?.querySelector("form [data-created]");
  if (!done) return;
  const more = dialog.querySelector("[name=more]")?.checked;
  done.remove();
  if (!more) dialog.close();
  else dialog.querySelector("textarea")?.focus();
});

if (new URLSearchParams(location.search).has("new")) openDialog("create");
