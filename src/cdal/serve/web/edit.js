/**
 * A correction: brush, fill, interpolation between slices and undo on a label map.
 * It knows no screen. A plane is named by the axis that it lies across (0 x, 1 y, 2 z).
 */

import { between } from './interpolate.js'

const MOST_STEPS = 200

export class Edit {
  /**
   * @param {Uint8Array} labels numbers of the classes, x fastest; they are changed in place.
   * @param {number[]} size `[x, y, z]`; z is 1 for pictures.
   * @param {number[]} spacing sides of a voxel.
   */
  constructor(labels, size, spacing = [1, 1, 1]) {
    Object.assign(this, { labels, size, spacing })
    this.strides = [1, size[0], size[0] * size[1]]
    this.steps = []
    this.step = null
  }

  get changed() {
    return this.steps.length > 0
  }

  /** Begin what one undo takes back, on slice `slice` across `axis`. */
  begin(axis, slice) {
    this.step = { axis, slice, places: [], before: [] }
  }

  /** End it. Returns whether anything has changed. */
  end() {
    const step = this.step
    this.step = null
    if (!step?.places.length) return false
    this.steps.push(step)
    if (this.steps.length > MOST_STEPS) this.steps.shift()
    return true
  }

  /** Take the last step back. Returns whether there was one. */
  undo() {
    const step = this.steps.pop()
    if (!step) return false
    for (let i = step.places.length - 1; i >= 0; i--) this.labels[step.places[i]] = step.before[i]
    return true
  }

  /** Paint a disc of `width` voxels around a point; one voxel if the width is 1. */
  stamp(point, axis, width, number) {
    const [u, v] = others(axis)
    const reach = Math.floor(width / 2)
    for (let j = -reach; j <= reach; j++) {
      for (let i = -reach; i <= reach; i++) {
        if (i * i + j * j > (width / 2) ** 2) continue
        const a = point[u] + i
        const b = point[v] + j
        if (a < 0 || b < 0 || a >= this.size[u] || b >= this.size[v]) continue
        this.set(this.at(axis, point[axis], a, b), number)
      }
    }
  }

  /** Paint from one point to another of the same plane. */
  line(from, to, axis, width, number) {
    const steps = Math.max(1, ...from.map((x, k) => Math.abs(to[k] - x)))
    for (let s = 1; s <= steps; s++) {
      const point = from.map((x, k) => Math.round(x + ((to[k] - x) * s) / steps))
      this.stamp(point, axis, width, number)
    }
  }

  /** Fill the connected area of one number in a plane with another. */
  fill(point, axis, number) {
    const [u, v] = others(axis)
    const place = (a, b) => this.at(axis, point[axis], a, b)
    const old = this.labels[place(point[u], point[v])]
    if (old === number) return
    const waiting = [[point[u], point[v]]]
    while (waiting.length) {
      const [a, b] = waiting.pop()
      if (this.labels[place(a, b)] !== old) continue
      let low = a
      let high = a
      while (low > 0 && this.labels[place(low - 1, b)] === old) low--
      while (high < this.size[u] - 1 && this.labels[place(high + 1, b)] === old) high++
      for (const row of [b - 1, b + 1]) {
        if (row < 0 || row >= this.size[v]) continue
        for (let x = low; x <= high; x++) {
          const inside = this.labels[place(x, row)] === old
          const begins = x === low || this.labels[place(x - 1, row)] !== old
          if (inside && begins) waiting.push([x, row])
        }
      }
      for (let x = low; x <= high; x++) this.set(place(x, b), number)
    }
  }

  /**
   * Redraw a class on the slices between those that were corrected.
   * @returns {number} how many slices were redrawn; 0 if fewer than two were corrected.
   */
  interpolate(axis, number) {
    const drawn = this.steps.filter((step) => step.axis === axis && step.slice >= 0)
    const slices = [...new Set(drawn.map((step) => step.slice))].sort((a, b) => a - b)
    const sides = others(axis)
    const size = sides.map((side) => this.size[side])
    const spacing = sides.map((side) => this.spacing[side])
    let count = 0
    this.begin(axis, -1)
    for (let k = 0; k + 1 < slices.length; k++) {
      const ends = [slices[k], slices[k + 1]].map((slice) => this.shape(axis, slice, number))
      const gap = slices[k + 1] - slices[k]
      const made = between(...ends, size, spacing, gap)
      made.forEach((shape, i) => this.put(axis, slices[k] + i + 1, number, shape))
      count += made.length
    }
    this.end()
    return count
  }

  /** Where a class is on a slice, as ones and zeros. */
  shape(axis, slice, number) {
    const [u, v] = others(axis).map((side) => this.size[side])
    const shape = new Uint8Array(u * v)
    for (let i = 0; i < shape.length; i++) {
      shape[i] = this.labels[this.at(axis, slice, i % u, Math.floor(i / u))] === number ? 1 : 0
    }
    return shape
  }

  /** Make a class have a shape on a slice. */
  put(axis, slice, number, shape) {
    const width = this.size[others(axis)[0]]
    for (let i = 0; i < shape.length; i++) {
      const place = this.at(axis, slice, i % width, Math.floor(i / width))
      if (shape[i]) this.set(place, number)
      else if (this.labels[place] === number) this.set(place, 0)
    }
  }

  /** Index of a voxel by its place in a plane. */
  at(axis, slice, a, b) {
    const [u, v] = others(axis)
    return slice * this.strides[axis] + a * this.strides[u] + b * this.strides[v]
  }

  set(place, number) {
    if (this.labels[place] === number) return
    this.step.places.push(place)
    this.step.before.push(this.labels[place])
    this.labels[place] = number
  }
}

/** The two axes of a plane. */
export const others = (axis) => [0, 1, 2].filter((k) => k !== axis)
