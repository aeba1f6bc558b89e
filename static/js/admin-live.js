// Admin lists that keep themselves up to date: an event in one of the list's topics makes its rows be read again.
// Rows that stay keep their elements (the admin's own script counts their checkboxes); only cells that differ are replaced.

import { feed } from "./feed.js";

const GATHER = 250; // milliseconds in which events are gathered into one request
const REST = 1_000; // and at least this long between two requests

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
    if (answer.ok && fresh && shown) updateRows(shown, fresh);
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

const source = document.getElementById("live-topics");
const topics = source ? JSON.parse(source.textContent) : null;
for (const [topic, cursor] of Object.entries(topics ?? {})) {
  feed.subscribe(topic, cursor, { event: later, resync: later });
}
document.addEventListener("visibilitychange", () => !document.hidden && again && later());
if (topics) later(); // what happened between the reading of the rows and of the cursors
