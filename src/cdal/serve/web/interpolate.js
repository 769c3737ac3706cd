/**
 * Shapes between two slices: their signed distances to the outline are mixed, and a voxel is inside
 * where the mixture is positive (Raya and Udupa, IEEE TMI 9:32-42, 1990).
 */

/**
 * @param {Uint8Array} low ones inside the lower shape.
 * @param {Uint8Array} high the same of the upper one.
 * @param {number[]} size width and height.
 * @param {number[]} spacing sides of a pixel.
 * @param {number} gap distance of the slices, in slices.
 * @returns {Uint8Array[]} the `gap - 1` shapes between them; none if one of them is empty.
 */
export function between(low, high, size, spacing, gap) {
  if (!low.includes(1) || !high.includes(1)) return []
  const ends = [signed(low, size, spacing), signed(high, size, spacing)]
  return Array.from({ length: gap - 1 }, (_, k) => {
    const share = (k + 1) / gap
    const inside = (_, i) => ((1 - share) * ends[0][i] + share * ends[1][i] > 0 ? 1 : 0)
    return Uint8Array.from(low, inside)
  })
}

/** Distance to the nearest pixel of the other kind: positive inside, negative outside. */
function signed(shape, size, spacing) {
  const outside = distances(shape, 1, size, spacing)
  const inside = distances(shape, 0, size, spacing)
  return Float64Array.from(shape, (one, i) => (one ? inside[i] : -outside[i]))
}

/** Euclidean distance to the nearest pixel of a kind, along rows first and then along columns. */
function distances(shape, kind, [width, height], [dx, dy]) {
  const squared = Float64Array.from(shape, (value) => (value === kind ? 0 : 1e20))
  for (let y = 0; y < height; y++) lowerEnvelope(squared, y * width, 1, width, dx)
  for (let x = 0; x < width; x++) lowerEnvelope(squared, x, width, height, dy)
  return squared.map(Math.sqrt)
}

/**
 * Squared distances along one line (Felzenszwalb and Huttenlocher, Theory of Computing 8, 2012).
 */
function lowerEnvelope(squared, start, stride, count, side) {
  const values = Float64Array.from({ length: count }, (_, i) => squared[start + i * stride])
  const roots = new Int32Array(count)
  const borders = new Float64Array(count + 1)
  const place = (i) => i * side
  let last = 0
  borders[0] = -Infinity
  borders[1] = Infinity
  for (let q = 1; q < count; q++) {
    const meet = (p) => (values[q] + place(q) ** 2 - values[p] - place(p) ** 2) / (2 * place(q - p))
    while (meet(roots[last]) <= borders[last]) last--
    borders[last + 1] = meet(roots[last])
    roots[++last] = q
    borders[last + 1] = Infinity
  }
  for (let q = 0, k = 0; q < count; q++) {
    while (borders[k + 1] < place(q)) k++
    squared[start + q * stride] = place(q - roots[k]) ** 2 + values[roots[k]]
  }
}
