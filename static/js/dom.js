// Small helpers that every page uses: asking the server for a fragment, flashes, and times that count.

export function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]')?.content ?? "";
}

// A fragment as a DocumentFragment. The fetch is cut off after 30 s. Anything that is no fragment raises: a failure, a
// sign-in page, a bare sentence (which is the error's message).
export async function fragment(url, { method = "GET", body = null, signal = null } = {}) {
  const cutOff = AbortSignal.timeout(30_000);
  const response = await fetch(url, {
    method,
    body,
    headers: { "HX-Request": "true", "X-CSRFToken": csrfToken(), Accept: "text/html" },
    credentials: "same-origin",
    signal: signal ? AbortSignal.any([signal, cutOff]) : cutOff,
  });
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("text/plain")) throw new Error(await response.text());
  if (response.redirected || response.status >= 500) throw new Error("The studio did not answer. Try again.");
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  return { status: response.status, content: template.content };
}

// `element` becomes like `fresh`: what is the same stays, with its focus, what was written in it and what was opened.
export function morph(element, fresh) {
  if (!element || !fresh || element.isEqualNode(fresh)) return;
  window.htmx.swap({ text: fresh.outerHTML, target: element, sourceElement: element, swap: "outerMorph" });
}

export function flash(text, level = "error") {
  const area = document.getElementById("flashes");
  const box = document.createElement("div");
  box.className = `flash ${level}`;
  box.setAttribute("role", level === "error" ? "alert" : "status");
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.className = "btn quiet sm icon";
  close.type = "button";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Dismiss");
  const cross = document.createElement("i");
  cross.className = "i i-x";
  close.append(cross);
  box.append(words, close);
  area.append(box);
  settleFlashes();
}

// What only confirms goes by itself; what went wrong stays until it is dismissed.
export function settleFlashes() {
  for (const box of document.querySelectorAll(".flash:not(.error):not([data-going])")) {
    if (!box.closest("#flashes")) continue;
    box.dataset.going = "";
    setTimeout(() => box.remove(), 4_500);
  }
}

export function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
}

export function age(seconds) {
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  if (seconds < 86_400 * 60) return `${Math.floor(seconds / 86_400)}d`;
  return `${Math.floor(seconds / (86_400 * 30))}mo`;
}

// <time datetime data-form> was written as UTC; here it becomes the reader's own time.
function localise(element) {
  const at = new Date(element.dateTime);
  const two = (n) => String(n).padStart(2, "0");
  const parts = { Y: at.getFullYear(), m: two(at.getMonth() + 1), d: two(at.getDate()), H: two(at.getHours()), i: two(at.getMinutes()), s: two(at.getSeconds()) };
  element.textContent = element.dataset.form.replace(/[YmdHis]/g, (letter) => parts[letter]);
  element.title = at.toString();
  delete element.dataset.form;
}

let skew = 0; // the server's clock minus ours: "running for 0:03" must not begin at -0:20
const stamp = Number(document.documentElement.dataset.now);
if (stamp) skew = stamp * 1000 - Date.now();

// <time data-run="epoch"> counts up each second; <time data-until="epoch"> counts down; <time data-age="epoch"> grows old each half minute.
export function tick(root = document, every = 0) {
  const at = (Date.now() + skew) / 1000;
  for (const element of root.querySelectorAll("time[data-run]")) element.textContent = clock(at - element.dataset.run);
  for (const element of root.querySelectorAll("time[data-until]")) {
    const left = element.dataset.until - at;
    element.textContent = left > 0 ? `in ${clock(left)}` : "now";
  }
  if (every % 30) return;
  for (const element of root.querySelectorAll("time[data-form]")) localise(element);
  for (const element of root.querySelectorAll("time[data-age]")) element.textContent = age(at - element.dataset.age);
}
