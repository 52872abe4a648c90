// One comparison at a time: intervals of "spline − method", and accuracy against the operations of all training.
// `sets` has for each set of methods the label of what it is compared with.
const COLOURS = { boundaries: "#0072b2", weights: "#d55e00", gradients: "#009e73", outputs: "#cc79a7", controls: "#767676" };
const WIDTH = 460;
const LABELS = 190;

export function comparison(root, { sets, margins, comparisons }) {
  document.documentElement.classList.add("alive");
  const [network, ratio, set] = root.querySelectorAll("select");
  const [intervals, costs] = root.querySelectorAll("svg");
  const said = root.querySelector("[role=status]");
  const body = root.querySelector("tbody");

  const fill = (select, labels) => select.replaceChildren(...labels.map((label, number) => new Option(label, number)));
  const chosen = () => comparisons[network.value];
  const part = () => chosen().ratios[ratio.value];

  function draw() {
    const name = Object.keys(sets)[set.value];
    const rows = part().intervals[name];
    const methods = part().methods.filter((method) => method.sets.includes(name));
    const margin = margins[chosen().rule];
    said.textContent = sentence(rows, margin, sets[name]);
    drawIntervals(intervals, rows, margin, sets[name]);
    drawCosts(costs, methods, sets[name]);
    fillTable(body, methods, rows);
  }

  function sentence(rows, margin, control) {
    if (!rows.length) return "No method of this set was run here: choose another set or network.";
    const words = [...new Set(rows.map((row) => row[4]))];
    const counted = words.map((word) => `${word} ${rows.filter((row) => row[4] === word).length}`).join(", ");
    const method = chosen().rule === "protocol" ? "simultaneous 95 % intervals" : "95 % intervals of each pair by itself";
    return `${control[0].toUpperCase()}${control.slice(1)} against ${rows.length} method${rows.length > 1 ? "s" : ""}: ${counted} (${method}, margin ${margin} point${margin === 1 ? "" : "s"}).`;
  }

  network.addEventListener("change", () => {
    const wanted = ratio.selectedOptions[0]?.text;
    fill(ratio, chosen().ratios.map((one) => one.ratio));
    for (const option of ratio.options) if (option.text === wanted) ratio.value = option.value;
    draw();
  });
  ratio.addEventListener("change", draw);
  set.addEventListener("change", draw);
  root.addEventListener("pointerover", (event) => mark(root, event.target.closest("[data-method]")?.dataset.method));
  root.addEventListener("focusin", (event) => mark(root, event.target.closest("[data-method]")?.dataset.method));
  fill(network, comparisons.map((one) => `${one.network}, ${one.scope}`));
  fill(set, Object.keys(sets));
  fill(ratio, chosen().ratios.map((one) => one.ratio));
  draw();
}

// Light up one method wherever it stands.
function mark(root, method) {
  for (const node of root.querySelectorAll("[data-method]")) node.classList.toggle("lit", node.dataset.method === method);
}

function element(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

// Round steps, five or so between the ends.
export function ticks(low, high) {
  const rough = (high - low || 1) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high + 1e-9; number++) found.push(+(number * step).toPrecision(6));
  return found;
}

function drawIntervals(svg, rows, margin, control) {
  const height = 22 * rows.length + 46;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren();
  if (!rows.length) return;
  const ends = rows.flatMap((row) => [row[1], row[2] ?? row[1], row[3] ?? row[1]]);
  const [low, high] = [Math.min(-1.5 * margin, ...ends), Math.max(1.5 * margin, ...ends)];
  const x = scale(low, high, LABELS, WIDTH - 12);
  const bottom = height - 40;
  svg.append(element("rect", { class: "band", x: x(-margin), y: 4, width: x(margin) - x(-margin), height: bottom - 4 }));
  svg.append(element("line", { class: "zero", x1: x(0), x2: x(0), y1: 4, y2: bottom }));
  for (const value of ticks(low, high)) {
    svg.append(element("text", { x: x(value), y: bottom + 16, "text-anchor": "middle" }, String(value)));
  }
  svg.append(element("text", { x: (LABELS + WIDTH) / 2, y: height - 6, "text-anchor": "middle" }, `${control} − method (points)`));
  rows.forEach(([label, difference, from, to], number) => {
    const y = 18 + 22 * number;
    const group = element("g", { "data-method": label });
    group.append(element("text", { x: LABELS - 8, y: y + 4, "text-anchor": "end" }, short(label)));
    if (from !== null) group.append(element("line", { class: "interval", x1: x(from), x2: x(to), y1: y, y2: y }));
    group.append(element("circle", { cx: x(difference), cy: y, r: 4.5 }));
    svg.append(group);
  });
}

function drawCosts(svg, methods, control) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} 330`);
  svg.replaceChildren();
  if (!methods.length) return;
  const costs = methods.map((method) => method.training);
  const bottoms = methods.map((method) => method.accuracy - (method.spread ?? 0));
  const tops = methods.map((method) => method.accuracy + (method.spread ?? 0));
  const [left, right] = [Math.min(...costs) - 0.05, Math.max(...costs) + 0.05];
  const [low, high] = [Math.min(...bottoms) - 0.2, Math.max(...tops) + 0.2];
  const x = scale(left, right, 48, WIDTH - 14);
  const y = scale(low, high, 280, 12);
  for (const value of ticks(low, high)) {
    svg.append(element("line", { class: "grid", x1: 48, x2: WIDTH - 14, y1: y(value), y2: y(value) }));
    svg.append(element("text", { x: 42, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const value of ticks(left, right)) {
    svg.append(element("text", { x: x(value), y: 298, "text-anchor": "middle" }, String(value)));
  }
  svg.append(element("text", { x: WIDTH / 2, y: 322, "text-anchor": "middle" }, "operations of all training, dense network = 1"));
  svg.append(element("text", { x: 14, y: 146, "text-anchor": "middle", transform: "rotate(-90 14 146)" }, "accuracy (%)"));
  for (const { label, family, training, accuracy, spread } of methods) {
    const group = element("g", { "data-method": label });
    group.append(element("title", {}, `${label}: ${accuracy} %`));
    if (spread) {
      const ends = { x1: x(training), x2: x(training), y1: y(accuracy - spread), y2: y(accuracy + spread) };
      group.append(element("line", { class: "spread", ...ends }));
    }
    const size = label === control ? 8 : 5;
    group.append(element("circle", { cx: x(training), cy: y(accuracy), r: size, style: `fill: ${COLOURS[family]}` }));
    group.append(element("text", { class: "tip", x: x(training), y: y(accuracy) - 12, "text-anchor": anchor(x(training)) }, label));
    svg.append(group);
  }
}

const anchor = (place) => (place < WIDTH / 3 ? "start" : place > (2 * WIDTH) / 3 ? "end" : "middle");
const signed = (number) => number.toFixed(2).replace("-", "−");
const short = (label) => (label.length > 30 ? `${label.slice(0, 29)}…` : label);

function fillTable(body, methods, rows) {
  const found = new Map(rows.map((row) => [row[0], row]));
  const ordered = [...methods].sort((one, other) => other.accuracy - one.accuracy);
  body.replaceChildren(
    ...ordered.map((method) => {
      const line = document.createElement("tr");
      const [, difference, low, high, word] = found.get(method.label) ?? [];
      const interval = low === null || low === undefined ? "" : ` (${signed(low)} to ${signed(high)})`;
      const spread = method.spread === null ? "" : ` ± ${method.spread.toFixed(2)}`;
      const cells = [
        method.label,
        method.n,
        `${method.accuracy.toFixed(2)}${spread}`,
        method.training.toFixed(2),
        difference === undefined ? "" : `${signed(difference)}${interval}`,
        word ?? "",
      ];
      line.dataset.method = method.label;
      line.append(
        ...cells.map((text, place) => {
          const cell = document.createElement(place ? "td" : "th");
          if (!place) cell.scope = "row";
          cell.textContent = text;
          return cell;
        }),
      );
      return line;
    }),
  );
}
