// <diff-view>: how a change is shown, the filter of its files, what has been seen, and going from file to file.

const SEEN = "seen:"; // in localStorage, by workspace: the digest with which each file was marked as viewed
const KEPT = 2_000; // marks of one workspace

function marksOf(workspace) {
  try {
    return JSON.parse(localStorage.getItem(SEEN + workspace)) ?? {};
  } catch {
    return {};
  }
}

class DiffView extends HTMLElement {
  connectedCallback() {
    this.addEventListener("change", this);
    this.addEventListener("input", this);
    document.addEventListener("keydown", this);
    document.addEventListener("htmx:after:settle", this);
    this.#show();
  }

  // While htmx puts something in, it gives new elements the attributes of the old ones for a moment: so it is done again then.
  #show() {
    this.marks = marksOf(this.dataset.workspace);
    for (const file of this.#files()) this.#offer(file);
    this.#count();
  }

  disconnectedCallback() {
    document.removeEventListener("keydown", this);
    document.removeEventListener("htmx:after:settle", this);
  }

  handleEvent(event) {
    if (event.type === "keydown") this.#key(event);
    else if (event.type === "htmx:after:settle") event.target.contains(this) && this.#show();
    else if (event.type === "input" && event.target.matches(".dfilter")) this.#filter(event.target.value);
    else if (event.type === "change" && event.target.matches("[data-cookie]")) this.#look(event.target);
    else if (event.type === "change" && event.target.closest(".dviewed")) this.#mark(event.target);
  }

  #files() {
    return [...this.querySelectorAll(".dfile")];
  }

  // A mark counts only as long as the file's part of the change is the one that was seen.
  #offer(file) {
    if (!file.dataset.digest) return;
    const label = file.querySelector(".dviewed");
    const seen = this.marks[file.id] === file.dataset.digest;
    label.hidden = false;
    label.querySelector("input").checked = seen;
    if (seen && !file.classList.contains("is-seen")) file.open = false; // once: it may be opened again
    this.#paint(file, seen);
  }

  #mark(box) {
    const file = box.closest(".dfile");
    this.marks = marksOf(this.dataset.workspace); // another tab may have marked others
    delete this.marks[file.id];
    if (box.checked) this.marks[file.id] = file.dataset.digest;
    localStorage.setItem(SEEN + this.dataset.workspace, JSON.stringify(Object.fromEntries(Object.entries(this.marks).slice(-KEPT))));
    this.#paint(file, box.checked);
    file.open = !box.checked;
    this.#count();
  }

  #paint(file, seen) {
    file.classList.toggle("is-seen", seen);
    this.querySelector(`.dfiles a[href="#${file.id}"]`)?.closest("li").classList.toggle("is-seen", seen);
  }

  #count() {
    const files = this.#files();
    const seen = files.filter((file) => file.classList.contains("is-seen")).length;
    this.querySelector(".dseen").textContent = seen ? `${seen} of ${files.length} viewed` : "";
  }

  #filter(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const file of this.#files()) {
      const path = file.dataset.path.toLowerCase();
      const fits = wanted.every((word) => path.includes(word));
      file.hidden = !fits;
      const link = this.querySelector(`.dfiles a[href="#${file.id}"]`);
      if (link) link.closest("li").hidden = !fits;
    }
  }

  // How it is shown is remembered where the server reads it: files that are fetched later come the same way.
  #look(box) {
    const [name, value] = box.dataset.cookie.split("=");
    document.cookie = `${name}=${box.checked ? value : ""}; path=/; samesite=lax; max-age=${box.checked ? 31_536_000 : 0}`;
    window.htmx.ajax("GET", this.dataset.url, { source: this.closest(".diffhost"), target: this.closest(".diffhost"), swap: "innerHTML" });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !["n", "p"].includes(event.key)) return;
    if (event.target.matches?.("input, textarea, select, [contenteditable]") || document.querySelector("dialog[open]")) return;
    const files = this.#files().filter((file) => !file.hidden);
    const at = files.indexOf(document.activeElement?.closest(".dfile"));
    const next = files[event.key === "n" ? at + 1 : Math.max(0, at - 1)];
    if (!next) return;
    event.preventDefault();
    next.scrollIntoView({ block: "start" });
    next.querySelector("summary").focus({ preventScroll: true });
  }
}

customElements.define("diff-view", DiffView);
