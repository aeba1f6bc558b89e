// What somebody writes survives that the page around it is read anew. A folded form (details.ask) stays as it is, with the version
// it was opened on, and says when what it is about (data-about) has changed. One that is no longer offered stays too, but cannot
// be sent. The answer to a form is always shown in it. A tab that is left with words in it is put aside, and is as it was when
// it is opened again; of one that looks after itself, and of a form that is not there for a while, the fields are.

const aside = new Map(); // tabs, by their id
const unsent = new Map(); // what was written in fields, by their id
const CHANGED = "This has changed since you began to write. Your words are kept.";
const GONE = "This is not possible any more. Your words stay here until you discard them or leave the page.";

window.htmx?.registerExtension("keep-words", {
  htmx_before_swap: (_, { ctx, tasks }) => {
    for (const { target, fragment } of tasks) {
      const fresh = target?.id && fragment?.querySelector(`#${CSS.escape(target.id)}`);
      if (!fresh) continue;
      empty(ctx);
      turn(target, fresh);
      for (const ask of target.querySelectorAll("details.ask[id]")) hold(ask, fresh, ctx);
      remember(target, fresh);
    }
  },
  htmx_after_swap: () => unsent.forEach(bringBack),
});

document.addEventListener("reset", ({ target }) => target.querySelectorAll(".wrong").forEach((wrong) => wrong.remove()));

// What was written in the form that was sent has been used.
function empty({ sourceElement: form, response }) {
  if (form instanceof HTMLFormElement && response?.status < 400 && isWrittenIn(form)) form.reset();
}

function hold(ask, fresh, ctx) {
  const now = fresh.querySelector(`#${CSS.escape(ask.id)}`);
  const form = ask.querySelector(":scope > form");
  const kept = form && isWrittenIn(form) && !isAnswered(form, now, ctx) && (now || leavePlace(ask, fresh));
  ask.toggleAttribute("hx-morph-skip", Boolean(kept));
  if (!kept) return;
  form.querySelector(".actions").hidden = !now;
  say(form, now ? now.dataset.about !== ask.dataset.about && CHANGED : GONE);
}

// The tab that is left makes room for the one that is opened.
function turn(target, fresh) {
  const [left, opened] = [target.querySelector(".tabbody"), fresh.querySelector(".tabbody")];
  if (!left || !opened || left.id === opened.id) return;
  const kept = aside.get(opened.id);
  aside.delete(opened.id);
  if (kept) left.before(kept);
  if (!isWrittenIn(left) || left.querySelector("[hx-morph-skip]:not(.ask)")) return;
  aside.set(left.id, left);
  left.remove(); // what the morph removes does not work any more
}

// A message to an agent is a draft of its own (composer.js).
function remember(target, fresh) {
  for (const field of target.querySelectorAll("form[method=post]:not(.composer) :is(textarea, input[type=text], input[type=radio]:checked)[id]")) {
    if (differs(field) && !field.closest("details.ask[hx-morph-skip]") && !fresh.querySelector(`#${CSS.escape(field.id)}`)) unsent.set(field.id, field.value);
  }
}

function bringBack(words, id) {
  const field = document.getElementById(id);
  if (!field) return;
  unsent.delete(id);
  if (field.type === "radio") {
    field.checked = true;
    field.dispatchEvent(new Event("change", { bubbles: true })); // what depends on the choice follows it
    return;
  }
  if (differs(field)) return;
  field.value = words;
  const folded = field.closest("details");
  if (folded) folded.open = true;
}

export function isWrittenIn(form) {
  return Boolean(form.querySelector(".wrong")) || [...form.querySelectorAll("input, textarea, select")].some(differs);
}

function differs(field) {
  if (field.matches("select")) return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
  if (field.matches("[type=checkbox], [type=radio]")) return field.checked !== field.defaultChecked;
  return field.value !== field.defaultValue;
}

// What was written comes back with the reason why it was refused.
function isAnswered(form, now, ctx) {
  return ctx.sourceElement === form && now?.querySelector(".wrong");
}

// The morph puts the old form in the place of its namesake.
function leavePlace(ask, fresh) {
  const around = ask.parentElement.closest("[id]");
  const place = fresh.id === around.id ? fresh : fresh.querySelector(`#${CSS.escape(around.id)}`);
  const box = place?.querySelector(`.${ask.parentElement.classList[0]}`) ?? place;
  box?.append(Object.assign(document.createElement("details"), { id: ask.id }));
  return box;
}

function say(form, words) {
  form.querySelector(".kept")?.remove();
  if (!words) return;
  const note = document.createElement("p");
  note.className = "note tone-amber kept";
  note.setAttribute("role", "status");
  const discard = Object.assign(document.createElement("button"), { type: "reset", className: "btn sm", textContent: "Discard my words" });
  note.append(Object.assign(document.createElement("span"), { className: "grow", textContent: words }), discard);
  form.querySelector(".actions").before(note);
}
