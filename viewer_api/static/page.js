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
  changes.addEventListener("change", later);
  window.addEventListener("pagehide", () => changes.close());
}
