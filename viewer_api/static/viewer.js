// The image viewer: series, slices, window, zoom and pan on one canvas, with layers over it.
// Places are in pixels of the image; `view` says where on the canvas they are drawn.

const root = document.getElementById("viewer");
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const opacity = document.getElementById("opacity");
const slider = document.getElementById("slice");
const where = document.getElementById("where");
const values = document.getElementById("values");
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7"];
const KEPT_IMAGES = 64;

const state = {
  series: [], layers: [], series_index: 0, slice: 0, tool: "window",
  window: null, inverted: false, view: null, image: null, shown: null, trouble: "", fitted: true,
};
const images = new Map();
const overlays = new Map();

function kept(map, key, load, most) {
  if (!map.has(key)) {
    map.set(key, load().catch((error) => { map.delete(key); throw error; }));
    if (map.size > most) map.delete(map.keys().next().value);
  }
  return map.get(key);
}

// The service decodes only so many images at a time, and says so.
async function patiently(path, tries = 5) {
  const answer = await fetch(path);
  if (answer.status !== 503 || tries === 1) return answer;
  await new Promise((wake) => setTimeout(wake, 1000));
  return patiently(path, tries - 1);
}

async function loadImage({ id, frame }) {
  const answer = await patiently(`/instances/${id}/pixels?frame=${frame}`);
  if (!answer.ok) throw new Error((await answer.json()).message);
  const about = JSON.parse(answer.headers.get("x-image"));
  const data = await answer.arrayBuffer();
  const pixels = about.kind === "grey" ? new Uint16Array(data) : new Uint8Array(data);
  return { ...about, pixels, surface: document.createElement("canvas"), painted: "" };
}

async function loadPicture(path) {
  const answer = await patiently(path);
  if (!answer.ok) throw new Error(path);
  return createImageBitmap(await answer.blob());
}

// -- drawing

function grey(image) {
  const { center, width } = state.window;
  const low = center - width / 2;
  const table = new Uint8ClampedArray(65536);
  for (let stored = 0; stored < 65536; stored += 1) {
    const share = (stored * image.slope + image.intercept - low) / width;
    table[stored] = 255 * (image.invert !== state.inverted ? 1 - share : share);
  }
  return table;
}

function paint(image) {
  const key = image.kind === "grey" ? JSON.stringify([state.window, state.inverted]) : String(state.inverted);
  if (image.painted === key) return;
  const { surface, rows, columns, pixels } = image;
  surface.width = columns;
  surface.height = rows;
  const target = surface.getContext("2d");
  const out = target.createImageData(columns, rows);
  const colours = new Uint32Array(out.data.buffer);
  if (image.kind === "rgb") {
    const flip = state.inverted ? 255 : 0;
    for (let i = 0, j = 0; i < colours.length; i += 1, j += 3) {
      colours[i] = 0xff000000 | ((pixels[j + 2] ^ flip) << 16) | ((pixels[j + 1] ^ flip) << 8) | (pixels[j] ^ flip);
    }
  } else {
    const table = image.kind === "grey" ? grey(image) : null;
    for (let i = 0; i < colours.length; i += 1) {
      const level = table ? table[pixels[i]] : pixels[i] ^ (state.inverted ? 255 : 0);
      colours[i] = 0xff000000 | (level << 16) | (level << 8) | level;
    }
  }
  target.putImageData(out, 0, 0);
  image.painted = key;
}

function ratio(image) {
  return image.spacing ? image.spacing[0] / image.spacing[1] : 1; // rows to columns, PS3.3 10.7.1.3
}

function fit() {
  const image = state.image;
  if (!image) return;
  const height = image.rows * ratio(image);
  const scale = Math.min(canvas.width / image.columns, canvas.height / height);
  state.view = { scale, x: (canvas.width - image.columns * scale) / 2, y: (canvas.height - height * scale) / 2 };
  state.fitted = true;
}

// Which of a layer's slices an image is; -1: none.
function placeIn(layer, shown) {
  return layer.places.findIndex(([uid, frame]) => uid === shown?.uid && frame === shown.frame);
}

function shownLayers() {
  return state.layers.filter((layer) => placeIn(layer, state.shown) >= 0 && isOn(layer));
}

function drawBoxes(layer) {
  context.strokeStyle = COLOURS[layer.number % COLOURS.length];
  context.lineWidth = 2 / state.view.scale;
  for (const [left, top, right, bottom] of layer.boxes) {
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

function draw() {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const image = state.image;
  if (!image || !state.view || !state.shown) return;
  paint(image);
  const { scale, x, y } = state.view;
  context.setTransform(scale, 0, 0, scale * ratio(image), x, y);
  context.imageSmoothingEnabled = scale < 3;
  context.drawImage(image.surface, 0, 0);
  for (const layer of shownLayers()) {
    context.globalAlpha = layer.kind === "boxes" ? 1 : opacity.value / 100;
    if (layer.kind === "boxes") drawBoxes(layer);
    else if (image.overlays.get(layer.key)) {
      context.drawImage(image.overlays.get(layer.key), 0, 0, image.columns, image.rows);
    }
  }
  context.globalAlpha = 1;
  tell();
}

function tell() {
  const series = state.series[state.series_index];
  const many = series.images.length > 1;
  const said = [`${series.modality} ${series.description}`];
  if (many) said.push(`${root.dataset.slice} ${series.images.indexOf(state.shown) + 1}/${series.images.length}`);
  if (state.trouble) said.push(state.trouble);
  where.textContent = said.join(" · ");
  values.textContent = state.image.kind === "grey"
    ? `${root.dataset.window} ${Math.round(state.window.center)} / ${Math.round(state.window.width)}` : "";
}

// -- what is shown

// What is wanted; `state.shown` is what the canvas shows: the one before until this is there.
function current() {
  return state.series[state.series_index]?.images[state.slice];
}

// Tells whether all are there.
async function loadOverlays(image, shown) {
  let whole = true;
  for (const layer of state.layers) {
    const place = placeIn(layer, shown);
    if (layer.kind === "boxes" || place < 0 || image.overlays.has(layer.key)) continue;
    const path = layer.kind === "heatmap"
      ? `/predictions/${layer.prediction}/heatmap`
      : `/predictions/${layer.prediction}/masks/${layer.number}?index=${place}`;
    try {
      image.overlays.set(layer.key, await kept(overlays, path, () => loadPicture(path), 4 * KEPT_IMAGES));
    } catch {
      whole = false;
    }
  }
  return whole;
}

async function show() {
  const wanted = current();
  if (!wanted) return;
  state.trouble = "";
  try {
    const image = await kept(images, `${wanted.id}/${wanted.frame}`, () => loadImage(wanted), KEPT_IMAGES);
    if (current() !== wanted) return; // scrolled on meanwhile
    image.overlays ??= new Map();
    const isNew = !state.image || state.image.rows !== image.rows || state.image.columns !== image.columns;
    state.image = image;
    state.shown = wanted;
    state.window ??= { center: image.center, width: image.width };
    if (isNew || !state.view) fit();
    draw();
    const whole = await loadOverlays(image, wanted);
    if (current() !== wanted) return;
    if (!whole) state.trouble = root.dataset.uncovered;
    draw();
    canvas.dataset.layers = shownLayers().length;
    canvas.dataset.shown = `${wanted.uid}/${wanted.frame}`;
  } catch (error) {
    if (current() !== wanted) return;
    if (state.shown !== wanted) { // rather nothing than another slice
      state.shown = null;
      draw();
    }
    where.textContent = `${root.dataset.failed} ${error.message}`;
  }
}

function go(slice) {
  const { length } = state.series[state.series_index].images;
  state.slice = Math.min(Math.max(slice, 0), length - 1);
  slider.value = state.slice + 1;
  show();
}

function isOn(layer) {
  return document.querySelector(`[data-layer="${layer.key}"]`)?.checked ?? true;
}

// Where an image is; null: in no series.
function placeOf(uid, frame) {
  for (const [index, series] of state.series.entries()) {
    const slice = series.images.findIndex((one) => one.uid === uid && one.frame === frame);
    if (slice >= 0) return { index, slice };
  }
  return null;
}

function showAt(place) {
  if (!place) return;
  if (place.index === state.series_index && state.image) go(place.slice);
  else choose(place.index, place.slice);
}

function startOf(layer) {
  return layer.places.length ? placeOf(...layer.places[layer.start]) : null;
}

function choose(index, slice = null) {
  state.series_index = index;
  state.window = null;
  state.image = state.shown = null;
  const { images: list } = state.series[index];
  document.getElementById("slices").hidden = list.length < 2;
  slider.max = list.length;
  for (const [number, button] of [...document.querySelectorAll("#series button")].entries()) {
    button.setAttribute("aria-pressed", String(number === index));
  }
  // Start where a model says most, or in the middle.
  const start = state.layers.filter(isOn).map(startOf).find((one) => one?.index === index);
  go(slice ?? start?.slice ?? Math.floor(list.length / 2));
}

function zoom(factor, x = canvas.width / 2, y = canvas.height / 2) {
  const view = state.view;
  if (!view) return;
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 60);
  view.x = x - (x - view.x) * (scale / view.scale);
  view.y = y - (y - view.y) * (scale / view.scale);
  view.scale = scale;
  state.fitted = false;
  draw();
}

function resize() {
  const box = canvas.parentElement.getBoundingClientRect();
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * density));
  canvas.height = Math.max(1, Math.round(box.height * density));
  if (state.fitted) fit();
  draw();
}

// -- hands

const actions = {
  in: () => zoom(1.25),
  out: () => zoom(0.8),
  fit: () => { fit(); draw(); },
  invert: () => { state.inverted = !state.inverted; draw(); },
  reset: () => {
    state.window = state.image && { center: state.image.center, width: state.image.width };
    state.inverted = false;
    fit();
    draw();
  },
};

function useTool(name) {
  state.tool = name;
  for (const button of root.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
}

for (const button of root.querySelectorAll("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]());
for (const button of root.querySelectorAll("[data-tool]")) button.addEventListener("click", () => useTool(button.dataset.tool));

const pointers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
}
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before || !state.image) return;
  const density = window.devicePixelRatio || 1;
  const dx = event.clientX - before.clientX;
  const dy = event.clientY - before.clientY;
  if (pointers.size === 2) {
    const [other] = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoom(distance(event) / Math.max(1, distance(before)));
  } else if (state.tool === "pan" || event.buttons === 4 || event.shiftKey) {
    state.view.x += dx * density;
    state.view.y += dy * density;
    state.fitted = false;
  } else if (state.image.kind === "grey") {
    const step = Math.max(state.window.width, 1) / 400;
    state.window = {
      center: state.window.center + dy * step,
      width: Math.max(1, state.window.width + dx * step * 2),
    };
  }
  pointers.set(event.pointerId, event);
  requestAnimationFrame(draw);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const many = state.series[state.series_index]?.images.length > 1;
  if (many && !event.ctrlKey) go(state.slice + Math.sign(event.deltaY));
  else {
    const box = canvas.getBoundingClientRect();
    const density = window.devicePixelRatio || 1;
    zoom(event.deltaY < 0 ? 1.12 : 0.89, (event.clientX - box.left) * density, (event.clientY - box.top) * density);
  }
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const keys = {
    ArrowUp: () => go(state.slice - 1), ArrowLeft: () => go(state.slice - 1),
    ArrowDown: () => go(state.slice + 1), ArrowRight: () => go(state.slice + 1),
    Home: () => go(0), End: () => go(Infinity),
    "+": actions.in, "-": actions.out, 0: actions.fit, i: actions.invert, r: actions.reset,
  };
  if (keys[event.key] && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    keys[event.key]();
  }
});
slider.addEventListener("input", () => go(Number(slider.value) - 1));
opacity.addEventListener("input", draw);
document.addEventListener("change", (event) => {
  const { layer: key } = event.target.dataset;
  const layer = state.layers.find((one) => one.key === key);
  if (!layer) return;
  if (event.target.checked && placeIn(layer, current()) < 0) showAt(startOf(layer));
  draw();
  canvas.dataset.layers = shownLayers().length;
});
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => showAt(placeOf(button.dataset.show, 1)));
}
new ResizeObserver(resize).observe(canvas.parentElement);

// -- start

const answer = await fetch(root.dataset.source);
if (answer.ok) {
  const data = await answer.json();
  state.series = data.series;
  state.layers = data.layers;
  const bar = document.getElementById("series");
  for (const [number, series] of state.series.entries()) {
    const button = document.createElement("button");
    button.className = "small";
    button.type = "button";
    button.textContent = `${series.modality} ${series.description} (${series.images.length})`;
    button.addEventListener("click", () => choose(number));
    bar.append(button);
  }
  bar.hidden = state.series.length < 2;
  resize();
  if (state.series.length) choose(state.layers.filter(isOn).map(startOf).find(Boolean)?.index ?? 0);
  else where.textContent = root.dataset.failed;
}
