// The exact partition of a square by a small ReLU network, in float64: convex polygons, cut by one unit after the other,
// layer by layer. splinelib.partition.compute_partition gives the same; tests/test_playground.py holds the two together.
//
// A network is a list of layers {weight: [units][inputs], bias: [units]}; after all but the last stands a ReLU, and the
// last gives the scores of two classes. Hidden units are numbered through all layers. A removed unit says 0 everywhere.

const ROUNDING = 1e-12; // values this small beside the terms that they are sums of are zero
const [ABOVE, BELOW] = [1, 2];
const CUT = -2; // in place of a unit's number

/** Regions {x, y, edge, on, area, margin} of the square [low, high]² without the units in `gone`, and `boundary`, the
 * segments [x, y, x, y] on which both scores are equal. `edge[i]` is the unit on whose boundary the edge from corner i
 * lies, -1 on the border; `on[u]` is 1 where unit u is active; `margin` is score 1 minus score 0 as [by x, by y, 1]. */
export function partition(network, [low, high], gone = new Set()) {
  const hidden = network.slice(0, -1);
  const on = new Uint8Array(hidden.reduce((sum, { bias }) => sum + bias.length, 0));
  const square = { x: [low, high, high, low], y: [low, low, high, high], edge: [-1, -1, -1, -1], on };
  let pieces = [{ ...square, maps: [1, 0, 0, 0, 1, 0], active: [0, 1] }];
  let first = 0;
  for (const layer of hidden) {
    pieces = pieces.flatMap((piece) => passLayer(piece, layer, first, gone));
    first += layer.bias.length;
  }
  const boundary = [];
  const regions = pieces.map(({ x, y, edge, on, maps, active }) => {
    const scores = affine(network.at(-1), maps, active);
    const margin = [0, 1, 2].map((i) => scores[3 + i] - scores[i]);
    const region = { x, y, edge, on, area: areaOf(x, y), margin };
    const cut = chord(region);
    if (cut) boundary.push(cut);
    return region;
  });
  return { regions, boundary };
}

/** The layer's values as affine functions of the plane, three numbers each, from those of its active inputs. */
function affine({ weight, bias }, maps, active) {
  const found = new Float64Array(3 * bias.length);
  for (let unit = 0; unit < bias.length; unit++) {
    const row = weight[unit];
    let a = 0;
    let b = 0;
    let c = bias[unit];
    for (const i of active) {
      a += row[i] * maps[3 * i];
      b += row[i] * maps[3 * i + 1];
      c += row[i] * maps[3 * i + 2];
    }
    found.set([a, b, c], 3 * unit);
  }
  return found;
}

/** The pieces that a piece falls into, cut by the units of a layer, with the layer's values on each. */
function passLayer(piece, layer, first, gone) {
  const maps = affine(layer, piece.maps, piece.active);
  let parts = [piece];
  const units = [...layer.bias.keys()].filter((unit) => !gone.has(first + unit));
  for (const unit of units) {
    const map = maps.subarray(3 * unit, 3 * unit + 3);
    const where = sides(piece, map);
    if (where === (ABOVE | BELOW)) parts = parts.flatMap((part) => split(part, map, first + unit));
    else if (where === ABOVE) for (const part of parts) part.on[first + unit] = 1;
  }
  for (const part of parts) {
    part.maps = maps;
    part.active = units.filter((unit) => part.on[first + unit]);
  }
  return parts;
}

/** The parts of a convex polygon below and above the zero line of `map`: one or two; above, `on[unit]` is set. */
function split(piece, map, unit) {
  const where = sides(piece, map);
  if (where !== (ABOVE | BELOW)) {
    if (where === ABOVE) piece.on[unit] = 1;
    return [piece];
  }
  const { x, y, edge, on } = piece;
  const minus = { x: [], y: [], edge: [], on };
  const plus = { x: [], y: [], edge: [], on: on.slice() };
  plus.on[unit] = 1;
  const add = (part, px, py, name) => (part.x.push(px), part.y.push(py), part.edge.push(name));
  for (let i = 0; i < x.length; i++) {
    const j = (i + 1) % x.length;
    const here = valueAt(x[i], y[i], map);
    const next = valueAt(x[j], y[j], map);
    // A part's edge lies on the cut where the polygon itself goes on to the other side.
    if (here >= 0) add(plus, x[i], y[i], here === 0 && next < 0 ? unit : edge[i]);
    if (here <= 0) add(minus, x[i], y[i], here === 0 && next > 0 ? unit : edge[i]);
    if (here * next < 0) {
      const t = here / (here - next);
      const [px, py] = [x[i] + t * (x[j] - x[i]), y[i] + t * (y[j] - y[i])];
      add(plus, px, py, here > 0 ? unit : edge[i]);
      add(minus, px, py, here < 0 ? unit : edge[i]);
    }
  }
  return [minus, plus];
}

/** On which sides of the zero line of `map` a polygon has corners. */
function sides({ x, y }, map) {
  let found = 0;
  for (let i = 0; i < x.length; i++) {
    const value = valueAt(x[i], y[i], map);
    if (value > 0) found |= ABOVE;
    else if (value < 0) found |= BELOW;
  }
  return found;
}

/** The affine function at a point; 0 where it is rounding alone. */
function valueAt(x, y, map) {
  const a = map[0] * x;
  const b = map[1] * y;
  const c = map[2];
  const value = a + b + c;
  return Math.abs(value) <= ROUNDING * (Math.abs(a) + Math.abs(b) + Math.abs(c)) ? 0 : value;
}

/** Where both scores are equal within a region, as [x, y, x, y]; null where they are nowhere. */
function chord(region) {
  if (sides(region, region.margin) !== (ABOVE | BELOW)) return null;
  const [, { x, y, edge }] = split(region, region.margin, CUT);
  const i = edge.indexOf(CUT);
  const j = (i + 1) % x.length;
  return [x[i], y[i], x[j], y[j]];
}

/** The parts of a region, one or two, with the class 0 or 1 that the network gives there as `label`. */
export function byClass({ x, y, edge, margin }) {
  const parts = split({ x, y, edge, on: new Uint8Array(1) }, margin, 0);
  return parts.map((part) => ({ ...part, label: part.on[0] }));
}

function areaOf(x, y) {
  let twice = 0; // from the first corner, so that no digits go lost far from the origin
  for (let i = 1; i + 1 < x.length; i++) {
    twice += (x[i] - x[0]) * (y[i + 1] - y[0]) - (x[i + 1] - x[0]) * (y[i] - y[0]);
  }
  return twice / 2;
}

/** The class, 0 or 1, of each point [x, y]. */
export function classify(network, points, gone = new Set()) {
  return points.map((point) => {
    let values = point;
    let first = 0;
    network.forEach(({ weight, bias }, depth) => {
      values = weight.map((row, unit) => row.reduce((sum, w, i) => sum + w * values[i], bias[unit]));
      if (depth === network.length - 1) return;
      values = values.map((value, unit) => (gone.has(first + unit) ? 0 : Math.max(value, 0)));
      first += bias.length;
    });
    return values[1] > values[0] ? 1 : 0;
  });
}

/** Length of the boundary of each unit, by its number, from the edges that regions have on it. */
export function lengths(regions) {
  const total = new Map();
  for (const { x, y, edge } of regions) {
    edge.forEach((unit, i) => {
      const j = (i + 1) % x.length;
      // Each edge belongs to two regions.
      total.set(unit, (total.get(unit) ?? 0) + Math.hypot(x[j] - x[i], y[j] - y[i]) / 2);
    });
  }
  return total;
}

/** The units that a network loses: the first `count` of each layer's order of falling, by their numbers. */
export function fallen(orders, count) {
  const gone = new Set();
  let first = 0;
  for (const order of orders) {
    order.slice(0, count).forEach((unit) => gone.add(first + unit));
    first += order.length;
  }
  return gone;
}
