/** Numbers as people read them. */

const two = (x) => x.toFixed(2)

/** A score with its interval: 0.87 (0.80-0.91). */
export function score(value, interval) {
  if (value == null) return '-'
  return interval ? `${two(value)} (${interval.map(two).join('\u2013')})` : two(value)
}

/** A volume in mm3, ml or pixels, with its interval. */
export function volume(value, interval, unit) {
  if (value == null) return '-'
  const ends = interval ?? []
  const space = value >= 1000 ? [1000, 'ml'] : [1, 'mm\u00b3']
  const [divisor, name] = unit === 'mm3' ? space : [1, 'px']
  const shown = (x) => {
    const scaled = x / divisor
    if (scaled >= 100) return Math.round(scaled).toLocaleString('en')
    return String(Number(scaled.toPrecision(3)))
  }
  const range = ends.length ? ` (${ends.map(shown).join('\u2013')})` : ''
  return `${shown(value)}${range} ${name}`
}

export const percent = (x) => `${Math.round(100 * x)} %`

/** The lowest expected Dice of a case's classes: the class, or nothing. */
export function worst(classes) {
  const known = classes.filter((each) => each.expected_dice != null)
  return known.sort((a, b) => a.expected_dice - b.expected_dice)[0]
}

/** Red, green and blue of `#rrggbb`. */
export const rgb = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16))
