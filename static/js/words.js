// What somebody writes in a folded form (details.ask) survives that the page around it is read anew. Such a form stays as it is,
// with the version it was opened on, and says when what it is about (data-about) has changed. One that is no longer offered stays
// too, but cannot be sent. The answer to a form is always shown in it.

const CHANGED = "This has changed since you began to write. Your words are kept.";
const GONE = "This is not possible any more. Your words stay here until you discard them or leave the page.";

window.htmx?.registerExtension("keep-words", {
  htmx_before_swap: (_, { ctx, tasks }) => {
    for (const { target, fragment } of tasks) {
      const fresh = target?.id && fragment?.querySelector(`#${CSS.escape(target.id)}`);
      if (fresh) for (const ask of target.querySelectorAll("details.ask[id]")) hold(ask, fresh, ctx);
    }
  },
});

document.addEventListener("reset", ({ target }) => target.querySelectorAll(".wrong").forEach((wrong) => wrong.remove()));

function hold(ask, fresh, ctx) {
  const now = fresh.querySelector(`#${CSS.escape(ask.id)}`);
  const form = ask.querySelector(":scope > form");
  const kept = form && isWrittenIn(form) && !isAnswered(form, now, ctx) && (now || leavePlace(ask, fresh));
  ask.toggleAttribute("hx-morph-skip", Boolean(kept));
  if (!kept) return;
  form.querySelector(".actions").hidden = !now;
  say(form, now ? now.dataset.about !== ask.dataset.about && CHANGED : GONE);
}

function isWrittenIn(form) {
  return form.querySelector(".wrong") || [...form.querySelectorAll("input, textarea, select")].some(differs);
}

function differs(field) {
  if (field.matches("select")) return [...field.options].some((option) => option.selected !== option.defaultSelected);
  if (field.matches("[type=checkbox], [type=radio]")) return field.checked !== field.defaultChecked;
  return field.value !== field.defaultValue;
}

// What was written has been used, or comes back with the reason why not.
function isAnswered(form, now, ctx) {
  return ctx.sourceElement === form && (ctx.response?.status < 400 || now?.querySelector(".wrong"));
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
