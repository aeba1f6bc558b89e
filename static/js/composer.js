// The forms of a session: the message field with its draft, the messages that wait, what a person decides about a turn.
// Each works without this script; with it the page stays, and what was written is kept whatever happens.

import { csrfToken, flash } from "./dom.js";

const PAUSE = 300; // milliseconds after the last key before a draft is kept

export class Composer {
  #timer = 0;

  constructor(root, put) {
    this.root = root;
    this.put = put;
    this.form = root.querySelector("form.composer");
    this.field = this.form?.querySelector("textarea");
    this.key = `draft:${this.form?.dataset.draft}`;
  }

  listen(signal) {
    this.root.addEventListener("submit", (event) => this.#submit(event), { signal });
    if (!this.form) return;
    this.field.addEventListener("input", () => this.#keepSoon(), { signal });
    const kept = read(this.key);
    if (kept && !this.field.value) {
      this.field.value = kept;
      this.#say("Your draft is back.");
    }
  }

  // While the agent works there are three ways to send.
  busy(is) {
    if (!this.form) return;
    this.form.querySelector(".while-busy").hidden = !is;
    this.form.querySelector("[data-submit]").textContent = is ? "Queue" : "Send";
  }

  async #submit(event) {
    const form = event.target;
    if (form !== this.form && !form.matches("[data-live]")) return;
    event.preventDefault();
    if (form.dataset.sent) return;
    form.dataset.sent = "1";
    try {
      const body = new FormData(form, event.submitter);
      this.put(await post(form.action, body));
      form.closest("details")?.removeAttribute("open");
      if (form === this.form) this.#sent();
    } catch (error) {
      this.#wrong(form, error.message);
    } finally {
      delete form.dataset.sent;
    }
  }

  #sent() {
    this.field.value = "";
    this.#wrong(this.form, "");
    clearTimeout(this.#timer);
    write(this.key, "");
    this.#say("");
    this.field.focus();
  }

  #wrong(form, message) {
    const place = form.querySelector(".wrong");
    if (!place) {
      if (message) flash(message);
      return;
    }
    place.textContent = message;
    place.hidden = !message;
    form.querySelector("textarea")?.toggleAttribute("aria-invalid", Boolean(message));
  }

  #keepSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const kept = write(this.key, this.field.value);
      this.#say(this.field.value ? (kept ? "Draft kept in this browser." : "This browser keeps no draft.") : "");
    }, PAUSE);
  }

  #say(words) {
    this.form.querySelector(".draft").textContent = words;
  }
}

async function post(url, body) {
  let response;
  try {
    response = await fetch(url, { method: "POST", body, headers: { "HX-Request": "true", "X-CSRFToken": csrfToken() }, credentials: "same-origin", signal: AbortSignal.timeout(30_000) });
  } catch {
    throw new Error("The studio did not answer. Your words are still here; try again.");
  }
  if (response.headers.get("content-type")?.startsWith("text/plain")) throw new Error(await response.text());
  if (response.status === 403) throw new Error("This page is from before you signed in or out. Your words are kept; reload the page.");
  if (!response.ok || response.redirected) throw new Error("The studio failed here. Your words are still here; try again.");
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  return template.content;
}

// A browser may forbid its storage: then a draft lives as long as its page.
function read(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function write(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
    return true;
  } catch {
    return false;
  }
}
