/** Label maps: one byte a voxel, the number of its class. */

/**
 * The mask when one class is where its probability reaches a threshold.
 * Other classes stay where they are, if this one does not take their place.
 * @param {Uint8Array} mask the model's own mask.
 * @param {{values: ArrayLike<number>, scale: number}} probability of the class.
 * @param {number} number the class.
 * @param {number} threshold 0 to 1.
 */
export function thresholded(mask, { values, scale }, number, threshold) {
  const least = threshold / scale
  const labels = new Uint8Array(mask.length)
  for (let i = 0; i < mask.length; i++) {
    labels[i] = values[i] >= least ? number : mask[i] === number ? 0 : mask[i]
  }
  return labels
}

/** How many voxels have each number, `[256]`. */
export function counts(labels) {
  const found = new Uint32Array(256)
  for (const number of labels) found[number]++
  return found
}

/** Black to red to yellow to white, `[256][3]`: probabilities and uncertainties. */
export const HEAT = Array.from({ length: 256 }, (_, i) => {
  const x = (3 * i) / 255
  return [x, x - 1, x - 2].map((part) => Math.round(255 * Math.min(1, Math.max(0, part))))
})

/** Uncertainty from which on its colour is brightest; the largest possible one is 0.71. */
export const TOP_UNCERTAINTY = 0.5
