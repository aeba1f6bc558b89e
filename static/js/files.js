// <files-view>: the open file's mark in the tree, lines in the address, and the editor that a person has chosen.

const KEY = "editor"; // in localStorage: which editor opens files, and on which host they are
const HOST = /^[A-Za-z0-9_][A-Za-z0-9._@-]*(:\d{1,5})?$/;
const NAMES = {
  vscode: "VS Code", "vscode-insiders": "VS Code", vscodium: "VSCodium", cursor: "Cursor", zed: "Zed",
  idea: "IDEA", pycharm: "PyCharm", "web-storm": "WebStorm", goland: "GoLand", "php-storm": "PhpStorm", clion: "CLion", rd: "Rider",
};
const OF_CODE = ["vscode", "vscode-insiders", "vscodium", "cursor"];

// The address that opens a file in an editor, or "". `root` and `path` are percent-encoded; without a host it is on this computer.
export function editorUrl({ editor, host }, root, path, line) {
  if (!Object.hasOwn(NAMES, editor) || (host && !HOST.test(host))) return "";
  const at = `${root}/${path}:${line}`;
  if (OF_CODE.includes(editor)) return host ? `${editor}://vscode-remote/ssh-remote+${host}${at}` : `${editor}://file${at}`;
  if (editor === "zed") return host ? `zed://ssh/${host}${at}` : `zed://file${at}`;
  if (host) return ""; // JetBrains' links open projects of this computer only
  return `jetbrains://${editor}/navigate/reference?project=${root.split("/").pop()}&path=${path}:${line}`;
}

function chosen() {
  try {
    const value = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return { editor: String(value.editor ?? ""), host: String(value.host ?? "") };
  } catch {
    return { editor: "", host: "" };
  }
}

// "#L5" and "#L5-L9" as [first, last]; null for anything else.
export function linesOf(hash) {
  const found = /^#L(\d{1,9})(?:-L?(\d{1,9}))?$/.exec(hash);
  if (!found) return null;
  const [from, to] = [Number(found[1]), Number(found[2] ?? found[1])];
  return from <= to ? [from, to] : [to, from];
}

function current(link, is) {
  if (is) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

class FilesView extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", this);
    this.addEventListener("input", this);
    this.addEventListener("submit", this);
    this.addEventListener("htmx:after:settle", this);
    addEventListener("hashchange", this);
    if (this.hasAttribute("data-page")) addEventListener("popstate", this);
    this.#fillForm();
    this.#show();
  }

  disconnectedCallback() {
    removeEventListener("hashchange", this);
    removeEventListener("popstate", this);
  }

  handleEvent(event) {
    if (event.type === "click") this.#click(event);
    else if (event.type === "input") this.#choose(event);
    else if (event.type === "submit") this.#submit(event);
    else if (event.type === "popstate") this.#back();
    else this.#show();
  }

  #click(event) {
    const number = event.target.closest(".code a[data-n]");
    const file = event.target.closest("a.ffile[hx-get], a.fline");
    const show = event.target.closest("a[data-show]");
    if (number) {
      event.preventDefault();
      const before = linesOf(location.hash);
      const line = Number(number.dataset.n);
      const range = event.shiftKey && before ? [Math.min(before[0], line), Math.max(before[0], line)] : [line, line];
      this.#address(range[0] === range[1] ? `#L${line}` : `#L${range[0]}-L${range[1]}`);
      this.#mark(false);
    } else if (file && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      const hash = file.dataset.line ? `#L${file.dataset.line}` : "";
      if (this.hasAttribute("data-page")) history.pushState(null, "", file.getAttribute("href"));
      else this.#address(hash);
    } else if (show) {
      for (const one of this.querySelectorAll("a[data-show]")) current(one, one === show);
    }
  }

  #address(hash) {
    history.replaceState(history.state, "", location.pathname + location.search + hash);
  }

  // Back and forward on the page of its own: what stands in the address is read anew, unless only the line is another.
  #back() {
    const path = new URLSearchParams(location.search).get("path") ?? "";
    if (path !== this.path) location.reload();
  }

  #submit(event) {
    if (event.target.matches("[data-editor-form]")) event.preventDefault();
  }

  #show() {
    const open = this.querySelector(".fopen");
    this.path = new URLSearchParams(location.search).get("path") ?? "";
    const wanted = open?.dataset.path;
    for (const link of this.querySelectorAll("a.ffile")) {
      current(link, wanted !== undefined && link.getAttribute("href").split("?path=")[1] === wanted);
    }
    // A folder that was opened beside the file moves nothing in it.
    const now = `${wanted}${location.hash}`;
    this.#mark(now !== this.now);
    this.now = now;
  }

  #mark(scroll) {
    const range = linesOf(location.hash);
    for (const row of this.querySelectorAll(".code tr.is-on")) row.classList.remove("is-on");
    if (range) {
      const rows = this.querySelectorAll(".code tr");
      for (let line = range[0]; line <= Math.min(range[1], rows.length); line++) rows[line - 1]?.classList.add("is-on");
      if (scroll) rows[range[0] - 1]?.scrollIntoView({ block: "center" });
    }
    this.#link(range?.[0] ?? 1);
  }

  #link(line) {
    const link = this.querySelector("a[data-editor]");
    const path = this.querySelector(".fopen")?.dataset.path;
    if (!link || !path) return;
    const choice = chosen();
    const url = this.dataset.root ? editorUrl(choice, this.dataset.root, path, line) : "";
    link.hidden = !url;
    if (!url) return;
    link.href = url;
    link.querySelector("span").textContent = NAMES[choice.editor];
    link.title = `Open line ${line} in ${NAMES[choice.editor]}${choice.host ? ` on ${choice.host}` : ""}`;
  }

  #fillForm() {
    const form = this.querySelector("[data-editor-form]");
    if (!form) return;
    const { editor, host } = chosen();
    form.elements.editor.value = editor;
    form.elements.host.value = host;
    this.#say(form);
  }

  #choose(event) {
    const form = event.target.closest("[data-editor-form]");
    if (!form) return;
    const choice = { editor: form.elements.editor.value, host: form.elements.host.value.trim() };
    if (!choice.host || HOST.test(choice.host)) localStorage.setItem(KEY, JSON.stringify(choice));
    this.#say(form);
    this.#mark(false);
  }

  #say(form) {
    const [editor, host] = [form.elements.editor.value, form.elements.host.value.trim()];
    let words = "Kept in this browser.";
    if (host && !HOST.test(host)) words = "A host is letters, digits, dots and hyphens, such as me@build.example.";
    else if (host && editor && !editorUrl({ editor, host }, "/x", "y", 1)) words = "This editor's links open files of this computer only. Leave the host empty.";
    form.querySelector("[data-editor-note]").textContent = words;
  }
}

customElements.define("files-view", FilesView);
