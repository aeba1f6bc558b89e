// Admin lists that keep themselves up to date: an event in one of the list's topics makes its rows be read again.

import { feed } from "./feed.js";

const GATHER = 250; // milliseconds in which events are gathered into one request

let timer = 0;
let busy = false;
let again = false;

async function refresh() {
  timer = 0;
  busy = true;
  again = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("#result_list tbody");
    const shown = document.querySelector("#result_list tbody");
    if (answer.ok && fresh && shown) {
      const chosen = new Set([...shown.querySelectorAll("input.action-select:checked")].map((box) => box.value));
      for (const box of fresh.querySelectorAll("input.action-select")) {
        box.checked = chosen.has(box.value);
        box.closest("tr").classList.toggle("selected", box.checked);
      }
      shown.replaceChildren(...fresh.children);
    }
  } catch {
    again = true; // the connection is gone for a moment
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
  busy = false;
  if (again) later();
}

function later() {
  again = true;
  if (!timer && !busy) timer = setTimeout(refresh, GATHER);
}

const source = document.getElementById("live-topics");
const topics = source ? JSON.parse(source.textContent) : null;
for (const [topic, cursor] of Object.entries(topics ?? {})) {
  feed.subscribe(topic, cursor, { event: later, resync: later });
}
if (topics) later(); // what happened between the reading of the rows and of the cursors
