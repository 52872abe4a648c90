import { distance, firstSettled } from "./rule.mjs";

// The page's part: a heat map of all pairs of epochs, and the epoch that the rule draws.
export function earlyBird(root, networks) {
  document.documentElement.classList.add("alive");
  const canvas = root.querySelector("canvas");
  const [network, seed] = root.querySelectorAll("select");
  const [threshold, look] = root.querySelectorAll("input");
  const [thresholdSaid, lookSaid] = root.querySelectorAll("output");
  const [said, drawn] = root.querySelectorAll("[role=status]");
  let pair = null;

  const group = () => networks[network.value];
  const run = () => group().seeds[seed.value];
  const epochs = () => run().accuracy.length;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const settled = (of) => firstSettled(of.distances, of.accuracy.length, +threshold.value, +look.value);

  function fill(select, labels) {
    select.replaceChildren(...labels.map((label, number) => new Option(label, number)));
  }

  function release() {
    threshold.value = group().threshold;
    look.value = group().window;
    draw();
  }

  function draw() {
    const count = epochs();
    const size = Math.max(count, Math.floor(480 / count) * count);
    const cell = size / count;
    const context = canvas.getContext("2d");
    canvas.width = canvas.height = size;
    const largest = Math.max(...run().distances, 1) / 1000;
    for (let a = 0; a < count; a++) {
      for (let b = 0; b < count; b++) {
        const share = distance(run().distances, a, b) / largest;
        context.fillStyle = `rgb(${ramp(share).join()})`;
        context.fillRect(a * cell, size - (b + 1) * cell, cell, cell);
      }
    }
    const found = settled(run());
    if (found !== null) {
      context.strokeStyle = "#e69f00";
      context.lineWidth = 2;
      context.setLineDash([6, 4]);
      context.strokeRect((found + 0.5) * cell, 0, size, size - (found + 0.5) * cell);
    }
    if (pair) {
      context.setLineDash([]);
      context.strokeStyle = "#fff";
      context.strokeRect(pair[0] * cell, size - (pair[1] + 1) * cell, cell, cell);
    }
    thresholdSaid.textContent = (+threshold.value).toFixed(3);
    lookSaid.textContent = look.value;
    drawn.textContent = verdict(found);
    said.textContent = pair
      ? `After epochs ${pair[0] + 1} and ${pair[1] + 1}: distance ${distance(run().distances, ...pair).toFixed(3)}; ` +
        `accuracy ${percent(run().accuracy[pair[0]])} and ${percent(run().accuracy[pair[1]])}.`
      : `Dark is near, light is far (up to ${largest.toFixed(2)}). Point at two epochs, or walk with the arrow keys.`;
  }

  function verdict(found) {
    const all = group().seeds.map(settled);
    const others = all.map((epoch) => (epoch === null ? "never" : epoch + 1)).join(", ");
    const last = run().accuracy.at(-1);
    const first =
      found === null
        ? `With these settings the rule never draws in ${epochs()} epochs.`
        : `Drawn after ${found + 1} of ${epochs()} epochs (${percent((found + 1) / epochs())} of the training), where the ` +
          `network's accuracy is ${percent(run().accuracy[found])}; at the end it is ${percent(last)}.`;
    return `${first} Over the seeds, after: ${others}.`;
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const place = (share) => Math.min(epochs() - 1, Math.max(0, Math.floor(share * epochs())));
    pair = [place((event.clientX - box.left) / box.width), place(1 - (event.clientY - box.top) / box.height)];
    draw();
  }

  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.tabIndex = 0;
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    pair = (pair ?? [0, 0]).map((epoch, axis) => Math.min(epochs() - 1, Math.max(0, epoch + step[axis])));
    draw();
  });
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  network.addEventListener("change", () => {
    pair = null;
    fill(seed, group().seeds.map((one) => one.seed));
    release();
  });
  for (const control of [seed, threshold, look]) control.addEventListener("input", draw);
  root.querySelector("button").addEventListener("click", release);
  fill(network, networks.map((one) => one.name));
  fill(seed, group().seeds.map((one) => one.seed));
  release();
}

// From dark to light, blue to yellow: reads without colour too.
function ramp(share) {
  const stops = [[0, 0, 60], [40, 60, 140], [110, 140, 150], [190, 190, 120], [255, 240, 120]];
  const place = Math.min(0.9999, Math.max(0, share)) * (stops.length - 1);
  const [from, to] = [stops[Math.floor(place)], stops[Math.floor(place) + 1]];
  return from.map((value, channel) => Math.round(value + (place % 1) * (to[channel] - value)));
}
