// The spline detector's rule on stored distances, the same as splinelib.early_bird.first_settled.

// Distance of epochs a and b from the rows below the diagonal, in thousandths.
export function distance(rows, a, b) {
  if (a === b) return 0;
  const [late, early] = a > b ? [a, b] : [b, a];
  return rows[(late * (late - 1)) / 2 + early] / 1000;
}

// The first epoch whose distances to the `window` epochs before it are all below `threshold`, or null.
export function firstSettled(rows, epochs, threshold, window) {
  for (let epoch = window; epoch < epochs; epoch++) {
    let largest = 0;
    for (let back = 1; back <= window; back++) largest = Math.max(largest, distance(rows, epoch, epoch - back));
    if (largest < threshold) return epoch;
  }
  return null;
}
