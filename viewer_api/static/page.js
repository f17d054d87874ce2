// What every page has: lists that submit when chosen, questions before what can't be undone,
// and parts that stay up to date.

for (const list of document.querySelectorAll("select[data-submit]")) {
  list.addEventListener("change", () => list.form.requestSubmit());
}

for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// An element with data-live is replaced by what its address returns, whenever something changed.
const live = [...document.querySelectorAll("[data-live]")];

async function refresh(element) {
  const answer = await fetch(element.dataset.live, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const text = await answer.text();
  if (element.dataset.shown === text || element.contains(document.activeElement?.closest("form"))) return;
  element.dataset.shown = text;
  element.innerHTML = text;
}

if (live.length) {
  let pending = null;
  const later = () => {
    pending ??= setTimeout(() => {
      pending = null;
      for (const element of live) refresh(element).catch(() => {});
    }, 150);
  };
  const changes = new EventSource("/changes");
  changes.addEventListener("open", later); // what changed before, or while the line was down
  changes.addEventListener("change", later);
  window.addEventListener("pagehide", () => changes.close());
}

// A page with data-reload asks where its study stands, and loads again when that has changed.
const waiting = document.querySelector("[data-reload]");
if (waiting) {
  const ask = async () => {
    const answer = await fetch(waiting.dataset.reload, { headers: { accept: "application/json" } });
    if (!answer.ok) return;
    const { state } = await answer.json();
    const typing = document.activeElement?.matches("textarea, input, select");
    if (state !== waiting.dataset.state && !typing) window.location.reload();
  };
  const changes = new EventSource("/changes");
  for (const kind of ["open", "change"]) changes.addEventListener(kind, () => ask().catch(() => {}));
  window.addEventListener("pagehide", () => changes.close());
}
