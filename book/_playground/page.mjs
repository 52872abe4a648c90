// What the reader sees of partition.mjs: a picture on a canvas, controls, and a sentence for those who see neither.

import { partition, byClass, classify, lengths, fallen } from "./partition.mjs";

const COLOURS = {
  light: { hues: [205, 30], lightness: (share) => 93 - 11 * share, line: "#777", boundary: "#000", wrong: "#b00000" },
  dark: { hues: [205, 30], lightness: (share) => 22 + 10 * share, line: "#8a8a8a", boundary: "#fff", wrong: "#ff9090" },
};
const MARKED = { light: "#b5176b", dark: "#ff6fb5" };
const NEAR = 14; // pixels within which a click means a boundary
const QUIET = 400; // milliseconds without a change before the sentence is said
const FRAME = 350; // milliseconds an epoch when the training is played

/** Bring the controls in `root` to life with `data` as written by book/_tools/playground.py. */
export function playground(root, data) {
  const find = (selector) => root.querySelector(selector);
  const [canvas, epoch, criterion, count] = ["canvas", "#playground-epoch", "select", "#playground-count"].map(find);
  const [toggle, said] = [".flip", ".said"].map(find);
  const widths = data.networks[0].slice(0, -1).map((layer) => layer.bias.length);
  const units = widths.flatMap((width, layer) => Array.from({ length: width }, (_, index) => ({ layer, index })));
  const state = { byHand: new Set(), chosen: null, over: null, drawn: null, due: false, speak: 0, player: 0 };

  document.documentElement.classList.add("alive");
  epoch.max = data.epochs.length - 1;
  epoch.value = epoch.max;
  count.max = Math.min(...widths) - 1;
  for (const [name, { label }] of Object.entries(data.criteria)) criterion.add(new Option(label, name));
  const buttons = unitButtons(find(".layers"), widths, units);

  const nameOf = (unit) => `unit ${units[unit].index + 1} of layer ${units[unit].layer + 1}`;
  const network = () => data.networks[epoch.value];
  /** What the slider removes, and by hand the other way round. */
  function removed() {
    const gone = fallen(data.criteria[criterion.value].orders[epoch.value], Number(count.value));
    for (const unit of state.byHand) gone.has(unit) ? gone.delete(unit) : gone.add(unit);
    return gone;
  }

  function measure(gone) {
    const { regions, boundary } = partition(network(), data.square, gone);
    const classes = classify(network(), data.points, gone);
    const wrong = data.points.filter((_, i) => classes[i] !== data.labels[i]);
    const length = boundary.reduce((sum, [a, b, c, d]) => sum + Math.hypot(c - a, d - b), 0);
    return { gone, regions, boundary, wrong, length, accuracy: 1 - wrong.length / data.points.length };
  }

  function render() {
    state.due = false;
    const now = (state.drawn = measure(removed()));
    const whole = measure(new Set());
    const marked = state.over ?? state.chosen;
    // A removed unit has no boundary; shown is where it would be.
    const without = new Set([...now.gone].filter((unit) => unit !== marked));
    const ghost = now.gone.has(marked) ? partition(network(), data.square, without).regions : null;
    draw(canvas, data.square, now, marked, ghost);
    const rows = [
      [whole, now].map(({ gone }) => units.length - gone.size),
      [whole, now].map(({ regions }) => regions.length),
      [whole, now].map(({ length }) => length.toFixed(1)),
      [whole, now].map(({ accuracy }) => `${(100 * accuracy).toFixed(1)} %`),
    ];
    root.querySelectorAll("tbody tr").forEach((row, i) => rows[i].forEach((v, j) => (row.cells[j + 1].textContent = v)));
    const share = Math.round((100 * count.value) / widths[0]);
    label(epoch, data.epochs[epoch.value]);
    label(count, `${share} %`);
    buttons.forEach((button, unit) => {
      button.classList.toggle("gone", now.gone.has(unit));
      button.setAttribute("aria-pressed", unit === state.chosen);
      button.setAttribute("aria-label", `${nameOf(unit)}${now.gone.has(unit) ? ", removed" : ""}`);
    });
    toggle.disabled = state.chosen === null;
    const chosenGone = now.gone.has(state.chosen);
    toggle.textContent =
      state.chosen === null ? "Remove the unit" : `${chosenGone ? "Put back" : "Remove"} ${nameOf(state.chosen)}`;
    clearTimeout(state.speak);
    state.speak = setTimeout(() => (said.textContent = sentence(now)), QUIET);
  }

  function sentence({ gone, regions, accuracy, length }) {
    const after = `After ${data.epochs[epoch.value]} epochs, ${gone.size} of ${units.length} units removed: `;
    const counts = `${regions.length} regions, a decision boundary of length ${length.toFixed(1)}, `;
    const right = `${(100 * accuracy).toFixed(1)} % of the test points right (crosses: wrong).`;
    const unit = state.chosen;
    if (unit === null) return after + counts + right;
    const long = (lengths(regions).get(unit) ?? 0).toFixed(1);
    const it = gone.has(unit) ? "is removed; dashed: where its boundary was" : `has a boundary of length ${long}`;
    return `${after}${counts}${right} ${nameOf(unit).replace("u", "U")} ${it}.`;
  }

  function refresh() {
    if (!state.due) requestAnimationFrame(render);
    state.due = true;
  }

  function choose(unit) {
    state.chosen = unit;
    if (unit !== null) buttons.forEach((button, i) => (button.tabIndex = i === unit ? 0 : -1));
    refresh();
  }

  function flip(unit) {
    if (unit === null) return;
    state.byHand.has(unit) ? state.byHand.delete(unit) : state.byHand.add(unit);
    refresh();
  }

  function stop() {
    clearInterval(state.player);
    state.player = 0;
    find(".play").textContent = "Play the training";
  }

  function play() {
    if (state.player) return stop();
    if (epoch.value === epoch.max) epoch.value = 0;
    find(".play").textContent = "Stop";
    state.player = setInterval(() => {
      epoch.value = Number(epoch.value) + 1;
      refresh();
      if (epoch.value === epoch.max) stop();
    }, FRAME);
    refresh();
  }

  [epoch, criterion, count].forEach((control) => control.addEventListener("input", refresh));
  epoch.addEventListener("input", stop);
  toggle.addEventListener("click", () => flip(state.chosen));
  find(".play").addEventListener("click", play);
  find(".reset").addEventListener("click", () => {
    state.byHand.clear();
    count.value = 0;
    choose(null);
  });
  const under = (event) => nearest(canvas, data.square, state.drawn.regions, event);
  canvas.addEventListener("click", (event) => choose(under(event)));
  canvas.addEventListener("pointermove", (event) => {
    const over = under(event);
    if (over !== state.over) refresh();
    state.over = over;
  });
  canvas.addEventListener("pointerleave", () => ((state.over = null), refresh()));
  buttons.forEach((button, unit) => button.addEventListener("click", () => choose(unit)));
  find(".layers").addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      const next = (at + step + buttons.length) % buttons.length;
      buttons[next].focus();
      choose(next);
    } else if (event.key === "Delete" || event.key === "Backspace") flip(at);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(refresh).observe(canvas);
  new MutationObserver(refresh).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  refresh();
}

/** One row of buttons for each layer; the arrow keys move among them, and one of them is in the order of tabs. */
function unitButtons(place, widths, units) {
  const rows = widths.map((_, layer) => {
    const row = document.createElement("div");
    row.className = "units";
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", `Layer ${layer + 1}`);
    place.append(row);
    return row;
  });
  return units.map(({ layer, index }, unit) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = index + 1;
    button.tabIndex = unit === 0 ? 0 : -1;
    rows[layer].append(button);
    return button;
  });
}

/** Say a slider's value beside its name, and to screen readers. */
function label(control, text) {
  document.querySelector(`label[for="${control.id}"] output`).textContent = text;
  control.setAttribute("aria-valuetext", text);
}

/** The unit on whose boundary the pointer is, or null. */
function nearest(canvas, [low, high], regions, event) {
  const box = canvas.getBoundingClientRect();
  const scale = box.width / (high - low);
  const [px, py] = [low + (event.clientX - box.left) / scale, high - (event.clientY - box.top) / scale];
  let best = [NEAR / scale, null];
  for (const { x, y, edge } of regions) {
    edge.forEach((unit, i) => {
      const j = (i + 1) % x.length;
      const [dx, dy] = [x[j] - x[i], y[j] - y[i]];
      const along = Math.min(1, Math.max(0, ((px - x[i]) * dx + (py - y[i]) * dy) / (dx * dx + dy * dy || 1)));
      const distance = Math.hypot(px - x[i] - along * dx, py - y[i] - along * dy);
      if (unit >= 0 && distance < best[0]) best = [distance, unit];
    });
  }
  return best[1];
}

function draw(canvas, [low, high], { regions, boundary, wrong }, marked, ghost) {
  const theme = document.documentElement.dataset.theme === "dark" ? "dark" : "light";
  const { hues, lightness, line, boundary: black, wrong: red } = COLOURS[theme];
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const [pen, scale, dot] = [canvas.getContext("2d"), side / (high - low), devicePixelRatio];
  const move = (x, y) => pen.moveTo((x - low) * scale, (high - y) * scale);
  const go = (x, y) => pen.lineTo((x - low) * scale, (high - y) * scale);
  const stroke = (colour, width) => ((pen.strokeStyle = colour), (pen.lineWidth = width * dot), pen.stroke());
  const edges = (list, wanted) => {
    pen.beginPath();
    for (const { x, y, edge } of list) {
      edge.forEach((unit, i) => {
        if (wanted(unit)) move(x[i], y[i]), go(x[(i + 1) % x.length], y[(i + 1) % x.length]);
      });
    }
  };
  pen.clearRect(0, 0, side, side);
  for (const region of regions) {
    // Neighbours differ in one unit, so in their shade.
    const shade = region.on.reduce((sum, on, unit) => sum + on * (unit + 1) * 0.381966, 0) % 1;
    for (const part of byClass(region)) {
      pen.fillStyle = `hsl(${hues[part.label]} 65% ${lightness(shade)}%)`;
      pen.beginPath();
      part.x.forEach((x, i) => (i ? go : move)(x, part.y[i]));
      pen.fill();
    }
  }
  edges(regions, (unit) => unit >= 0);
  stroke(line, 0.7);
  pen.beginPath();
  for (const [a, b, c, d] of boundary) move(a, b), go(c, d);
  stroke(black, 2.2);
  pen.beginPath();
  const arm = (3.5 * dot) / scale;
  for (const [x, y] of wrong) move(x - arm, y - arm), go(x + arm, y + arm), move(x - arm, y + arm), go(x + arm, y - arm);
  stroke(red, 1.6);
  if (marked === null) return;
  pen.setLineDash(ghost ? [6 * dot, 5 * dot] : []);
  edges(ghost ?? regions, (unit) => unit === marked);
  stroke(MARKED[theme], 4);
  pen.setLineDash([]);
}
