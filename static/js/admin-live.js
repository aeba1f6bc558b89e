// Admin lists that keep themselves up to date: an event in one of the list's topics makes its rows be read again.
// Rows that stay keep their elements (the admin's own script counts their checkboxes); only cells that differ are replaced.

import { feed } from "./feed.js";

const GATHER = 250; // milliseconds in which events are gathered into one request
const REST = 1_000; // and at least this long between two requests
const LOOK_ANYWAY = 30_000; // for what no topic tells: the first news of a project

const followed = new Set(); // topics

let timer = 0;
let asking = false;
let again = false;
let asked = -REST;

const nameOf = (row) => row.querySelector("input.action-select")?.value ?? row.querySelector("a")?.getAttribute("href") ?? row.textContent;

function updateRow(row, fresh) {
  fresh.querySelectorAll(":scope > :is(td, th)").forEach((cell, index) => {
    const shown = row.children[index];
    if (shown?.classList.contains("action-checkbox")) return;
    if (shown && shown.innerHTML !== cell.innerHTML) shown.replaceWith(cell.cloneNode(true));
  });
}

// An empty list has no table, and the admin's script has nothing to hold on to: the first row comes with the whole page,
// unless somebody is writing in it: then with the next news.
function begin() {
  if (!document.activeElement?.matches("input, select, textarea")) location.reload();
}

function updateRows(shown, fresh) {
  const known = new Map([...shown.children].map((row) => [nameOf(row), row]));
  const rows = [...fresh.children].map((row) => {
    const before = known.get(nameOf(row));
    if (before) updateRow(before, row);
    return before ?? document.adoptNode(row);
  });
  const moved = rows.length !== shown.children.length || rows.some((row, index) => row !== shown.children[index]);
  if (moved) shown.replaceChildren(...rows);
}

async function refresh() {
  timer = 0;
  if (document.hidden) return; // the list is read when it is looked at
  again = false;
  asking = true;
  asked = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(30_000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("#result_list tbody");
    const shown = document.querySelector("#result_list tbody");
    if (answer.ok && !answer.redirected) {
      follow(page);
      if (fresh && shown) updateRows(shown, fresh);
      else if (fresh) begin();
      else shown?.replaceChildren();
    }
  } catch {
    again = true; // the connection is gone for a moment
    asked += REST;
  }
  asking = false;
  if (again) later();
}

function later() {
  again = true;
  if (timer || asking) return;
  timer = setTimeout(refresh, Math.max(GATHER, asked + REST - performance.now()));
}

function follow(page) {
  const source = page.getElementById("live-topics");
  for (const [topic, cursor] of Object.entries(source ? JSON.parse(source.textContent) : {})) {
    if (followed.has(topic)) continue;
    followed.add(topic);
    feed.subscribe(topic, cursor, { event: later, resync: later });
  }
}

if (document.getElementById("live-topics")) {
  follow(document);
  document.addEventListener("visibilitychange", () => !document.hidden && again && later());
  setInterval(later, LOOK_ANYWAY);
  later(); // what happened between the reading of the rows and of the cursors
}
