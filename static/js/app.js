// What every page has: the connection's state, look, menus, dialogs, flashes, shortcuts.

import { csrfToken, flash, settleFlashes, tick } from "./dom.js";
import { feed } from "./feed.js";
import "./waiting.js";

// ---- htmx: our token on every request, what people opened stays open, failures are said

document.addEventListener("htmx:config:request", ({ detail }) => {
  detail.ctx.request.headers["X-CSRFToken"] = csrfToken();
});
document.addEventListener("htmx:error", () => flash("The studio did not answer. Look at the connection, then try again."));
document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
  const { status, headers } = ctx.response;
  const sentence = headers.get("content-type")?.startsWith("text/plain");
  if (status < 500 && !sentence && status !== 403 && status !== 404) return; // the fragment itself says what is wrong
  ctx.swap = "none";
  if (sentence) flash(ctx.text);
  else if (status === 403) flash("This page is from before you signed in or out. Reload it and try again.");
  else flash("The studio failed here. The error is in its log; nothing was half done.");
});
document.addEventListener("htmx:after:swap", () => {
  settleFlashes();
  tick();
});
window.htmx?.registerExtension("keep-open", {
  htmx_before_morph_attr: (element, detail) => !(detail.attrName === "open" && element.matches("details, dialog")),
});

// ---- the connection

const offline = document.getElementById("offline");
const FIRST_PATIENCE = 3_000; // with the first connection of a page
const LIGHTS = { on: "Live", off: "Offline", connecting: "Connecting…" };
let patience = 0;

function light(state) {
  for (const one of document.querySelectorAll(".live")) {
    one.dataset.state = state;
    one.textContent = LIGHTS[state];
  }
}

function sayOffline() {
  light("off");
  offline.textContent = "The connection to the studio is lost. Trying again … What you see may be old.";
  offline.hidden = false;
}

feed.addEventListener("state", () => {
  if (feed.state === "connecting") return; // the first try has its time already; a later one changes nothing
  clearTimeout(patience);
  light(feed.state === "on" ? "on" : "off");
  if (feed.state === "on") offline.hidden = true;
  else if (feed.state === "signed-out") {
    offline.replaceChildren("You are signed out. ", Object.assign(document.createElement("a"), { href: `/login/?next=${encodeURIComponent(location.pathname)}`, textContent: "Sign in" }));
    offline.hidden = false;
  } else patience = setTimeout(sayOffline, 1_500); // a short break needs no words
});
if (document.querySelector(".live")) patience = setTimeout(sayOffline, FIRST_PATIENCE);

// ---- look, menus, dialogs, flashes

// Of more tabs than fit, the one where one is can be seen.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) tab.scrollIntoView({ block: "nearest", inline: "center" });

// Two looks. Choosing the one that the system has anyway means: follow the system.
function changeTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  if (next === system) delete root.dataset.theme;
  else root.dataset.theme = next;
  document.cookie = `theme=${next}; path=/; samesite=lax; max-age=${next === system ? 0 : 31_536_000}`;
}

function closeAround(element) {
  const box = element.closest("dialog, details");
  if (box.matches("dialog")) box.close();
  else box.open = false;
}

export function openDialog(id) {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
  return dialog;
}

// A link to something that is folded opens it.
document.addEventListener("click", (event) => {
  const id = event.target.closest("a[href^='#']")?.getAttribute("href").slice(1);
  const folded = id && document.getElementById(id)?.closest("details");
  if (folded) folded.open = true;
});

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-theme-toggle], [data-open], [data-close], [data-dismiss]");
  for (const menu of document.querySelectorAll("details[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
  if (event.target.matches("dialog")) event.target.close(); // the backdrop
  if (!target) return;
  if (target.matches("[data-theme-toggle]")) changeTheme();
  else if (target.matches("[data-dismiss]")) target.closest(".flash").remove();
  else if (target.matches("[data-close]")) closeAround(target);
  else if (openDialog(target.dataset.open)) event.preventDefault();
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog" || form.matches("[data-hx-post], [hx-post]")) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 4_000);
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

// Cmd/Ctrl+Enter sends the form one is writing in.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const form = event.target.closest?.("textarea, input")?.form;
  const button = form?.querySelector("[data-submit]") ?? form?.querySelector("button.primary, button.danger");
  if (button) form.requestSubmit(button);
});

// ---- shortcuts: elements name their key in data-key; one letter, or two after another ("g p"). With data-focus the key only
// goes there: what cannot be undone takes a second one

let before = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    for (const menu of document.querySelectorAll("details[data-menu][open]")) menu.open = false;
    return;
  }
  if (typing || document.querySelector("dialog[open]")) return;
  if (event.key === "?") {
    openDialog("keys");
    return;
  }
  const two = `${before} ${event.key}`;
  before = event.key;
  setTimeout(() => (before = ""), 800);
  const target = document.querySelector(`[data-key="${CSS.escape(two)}"]`) ?? document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!target || target.closest("[hidden]")) return;
  event.preventDefault();
  if (target.matches("input, textarea, [data-focus]")) target.focus();
  else target.click();
});

let seconds = 0;
tick();
settleFlashes();
setInterval(() => document.hidden || tick(document, ++seconds), 1_000);
