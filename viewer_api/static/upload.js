// Files go up one by one, each as the body of one request, so that each has its own progress
// and its own answer. Nothing is analysed before the person says so.

const form = document.getElementById("upload");
const list = document.getElementById("list");
const go = document.getElementById("go");
const problem = document.getElementById("problem");
const model = document.getElementById("model");
const words = form.dataset;
const csrf = form.elements.csrf_token.value;
const AT_ONCE = 3;

let upload = null;
let running = 0;
let taken = 0;
const queue = [];

function show(message) {
  problem.hidden = !message;
  problem.textContent = message ?? "";
}

function post(path, body) {
  return fetch(path, { method: "POST", body, headers: { "x-csrf-token": csrf, accept: "application/json" } });
}

async function uploadId() {
  upload ??= post("/uploads").then(async (answer) => {
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.message);
    return said.id;
  }).catch((error) => { upload = null; throw error; });
  return upload;
}

function row(name) {
  const item = document.createElement("li");
  const label = Object.assign(document.createElement("span"), { className: "file-name", textContent: name });
  const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
  bar.setAttribute("aria-label", name);
  const said = Object.assign(document.createElement("span"), { className: "muted", textContent: words.waiting });
  item.append(label, bar, said);
  list.append(item);
  return { item, bar, said };
}

function settle(place, text, kind, code) {
  place.bar.remove();
  place.said.textContent = text;
  place.item.dataset.kind = kind;
  if (code) {
    const label = document.createElement("code");
    label.textContent = code;
    place.said.append(" ", label);
  }
}

function send(id, file, name, place, tries = 5) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/uploads/${id}/files?name=${encodeURIComponent(name)}`);
    request.setRequestHeader("x-csrf-token", csrf);
    request.setRequestHeader("accept", "application/json");
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) place.bar.value = event.loaded / event.total;
    });
    request.addEventListener("load", () => {
      if (request.status === 503 && tries > 1) { // busy with other images
        setTimeout(() => resolve(send(id, file, name, place, tries - 1)), 2000);
        return;
      }
      let said = null;
      try { said = JSON.parse(request.responseText); } catch { /* answered below */ }
      resolve(said ?? { message: words.lost, code: String(request.status) });
    });
    request.addEventListener("error", () => resolve({ message: words.lost, code: "" }));
    place.said.textContent = words.sending;
    request.send(file);
  });
}

function tell(place, said) {
  if (!Array.isArray(said)) {
    settle(place, said.message, "refused", said.code);
    return;
  }
  for (const one of said) {
    if (one.kind === "zip") continue;
    const at = said.length > 1 ? row(one.name) : place;
    if (one.kind) {
      taken += 1;
      settle(at, `${words.taken} · ${one.kind}`, "taken");
    } else {
      settle(at, `${words.refused}: ${one.message}`, "refused", one.code);
    }
  }
  if (said.length > 1) place.item.remove();
}

async function work() {
  while (queue.length && running < AT_ONCE) {
    const { file, name, place } = queue.shift();
    running += 1;
    uploadId()
      .then((id) => send(id, file, name, place))
      .then((said) => tell(place, said))
      .catch((error) => settle(place, error.message, "refused"))
      .finally(() => { running -= 1; work(); });
  }
  go.disabled = running > 0 || queue.length > 0 || taken === 0;
}

function add(file, name) {
  show();
  const place = row(name);
  if (file.size > Number(words.maxBytes)) {
    settle(place, words.tooLarge, "refused", "UPLOAD_TOO_LARGE");
    return;
  }
  queue.push({ file, name, place });
  work();
}

async function walk(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    add(file, path + file.name);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, `${path}${entry.name}/`);
  }
}

const drop = document.getElementById("drop");
for (const kind of ["dragover", "dragenter"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, () => drop.classList.remove("over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) walk(entry, "").catch((error) => show(error.message));
});
for (const input of [document.getElementById("files"), document.getElementById("folder")]) {
  input.addEventListener("change", () => {
    for (const file of input.files) add(file, file.webkitRelativePath || file.name);
    input.value = "";
  });
}

model.addEventListener("change", () => {
  document.getElementById("purpose").textContent = model.selectedOptions[0].dataset.purpose;
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  go.disabled = true;
  show();
  try {
    const answer = await post(`/uploads/${await uploadId()}/finish`, new FormData(form));
    const said = await answer.json();
    if (answer.ok) {
      window.location.assign(said.studies.length === 1 ? `/studies/${said.studies[0]}` : said.page);
      return;
    }
    show(said.message);
  } catch {
    show(words.lost);
  }
  go.disabled = false;
});
