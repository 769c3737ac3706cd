/**
 * Pictures, drawn on a canvas of our own: one pixel of the file is one square on the screen.
 * Layers are drawn over each other, each from an offscreen canvas of the picture's size.
 */

import * as api from './api.js'
import { viewCanvas } from './dom.js'
import { rgb } from './format.js'
import { HEAT, TOP_UNCERTAINTY } from './labels.js'
import { decodeGrey, encodeGrey } from './png.js'
import { followStrokes } from './strokes.js'

const MOST_ZOOM = 64
const TOPS = { probability: 255, uncertainty: 255 * TOP_UNCERTAINTY }

/** Show the picture of a case. */
export async function open(root, theCase) {
  const canvas = viewCanvas(root, 'Picture')
  const blob = new Blob([await api.layer(theCase.id, 'image')], { type: 'image/png' })
  const image = await createImageBitmap(blob, { colorSpaceConversion: 'none' })
  return new PictureViewer(theCase, canvas, image)
}

class PictureViewer {
  constructor(theCase, canvas, image) {
    Object.assign(this, { theCase, canvas, number: 1, paint: null, heat: {}, voxel: 1 })
    this.layers = ['image', 'mask', 'probability', 'uncertainty'].filter((kind) =>
      theCase.layers.includes(kind))
    this.size = [image.width, image.height, 1]
    this.spacing = [1, 1, 1]
    this.window = { low: 0, high: 255, min: 0, max: 255 }
    this.opacity = { image: 1, mask: 0.5, probability: 0, uncertainty: 0 }
    this.original = image
    this.image = image
    this.overlay = sheet(image.width, image.height)
    this.colours = palette(theCase.classes)
    this.at = [image.width >> 1, image.height >> 1]
    this.observer = new ResizeObserver(() => this.fit())
    this.observer.observe(canvas.parentElement)
    followStrokes(canvas, () => this.paint, (event) => this.pick(event))
    this.followMouse()
  }

  /** Show the whole picture. */
  fit() {
    const box = this.canvas.parentElement.getBoundingClientRect()
    const ratio = window.devicePixelRatio
    this.canvas.width = Math.max(1, Math.round(box.width * ratio))
    this.canvas.height = Math.max(1, Math.round(box.height * ratio))
    const [width, height] = this.size
    const zoom = Math.min(this.canvas.width / width, this.canvas.height / height)
    this.zoom = zoom > 1 ? Math.floor(zoom) : zoom
    this.left = Math.round((this.canvas.width - this.zoom * width) / 2)
    this.top = Math.round((this.canvas.height - this.zoom * height) / 2)
    this.redraw()
  }

  /** Zoom about a place of the canvas. */
  zoomBy(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const zoom = Math.min(MOST_ZOOM, Math.max(0.02, this.zoom * factor))
    this.left = x - ((x - this.left) * zoom) / this.zoom
    this.top = y - ((y - this.top) * zoom) / this.zoom
    this.zoom = zoom
    this.redraw()
  }

  /** Draw once, before the next frame. */
  redraw() {
    if (this.closed) return
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null
      this.draw()
    })
  }

  draw() {
    const context = this.canvas.getContext('2d')
    context.fillStyle = '#000'
    context.fillRect(0, 0, this.canvas.width, this.canvas.height)
    const place = [this.left, this.top, this.zoom * this.size[0], this.zoom * this.size[1]]
    const layers = [
      ['image', this.image], ['mask', this.overlay],
      ['probability', this.heat.probability], ['uncertainty', this.heat.uncertainty],
    ]
    for (const [name, source] of layers) {
      if (!source || !this.opacity[name]) continue
      context.imageSmoothingEnabled = name === 'image' && this.zoom < 1
      context.globalAlpha = this.opacity[name]
      context.drawImage(source, ...place)
    }
    context.globalAlpha = 1
    if (document.activeElement === this.canvas && this.paint) this.drawCursor(context)
  }

  drawCursor(context) {
    const [x, y] = this.at.map((value, k) => [this.left, this.top][k] + value * this.zoom)
    context.strokeStyle = '#4bf'
    context.strokeRect(x - 1, y - 1, this.zoom + 2, this.zoom + 2)
  }

  /** Drag to move, turn the wheel to zoom. */
  followMouse() {
    let last = null
    this.canvas.addEventListener('pointerdown', (event) => {
      this.canvas.focus()
      if (event.defaultPrevented) return
      this.canvas.setPointerCapture(event.pointerId)
      last = [event.clientX, event.clientY]
    })
    this.canvas.addEventListener('pointermove', (event) => {
      if (!last) return
      this.left += (event.clientX - last[0]) * window.devicePixelRatio
      this.top += (event.clientY - last[1]) * window.devicePixelRatio
      last = [event.clientX, event.clientY]
      this.redraw()
    })
    this.canvas.addEventListener('pointerup', () => (last = null))
    this.canvas.addEventListener('pointercancel', () => (last = null))
    this.canvas.addEventListener('wheel', (event) => {
      event.preventDefault()
      this.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, ...this.onCanvas(event))
    }, { passive: false })
    for (const name of ['focus', 'blur']) this.canvas.addEventListener(name, () => this.redraw())
  }

  onCanvas(event) {
    const box = this.canvas.getBoundingClientRect()
    const ratio = this.canvas.width / box.width
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio]
  }

  /** The pixel under the pointer; nothing outside. */
  pick(event) {
    const [x, y] = this.onCanvas(event)
    const column = Math.floor((x - this.left) / this.zoom)
    const row = Math.floor((y - this.top) / this.zoom)
    const point = [column, row, 0]
    const inside = point.every((value, k) => value >= 0 && value < this.size[k])
    return inside ? { point, axis: 2 } : null
  }

  cursor() {
    return { point: [...this.at, 0], axis: 2 }
  }

  move(dx, dy) {
    const inside = (place, k) => Math.min(this.size[k] - 1, Math.max(0, place))
    this.at = [inside(this.at[0] + dx, 0), inside(this.at[1] - dy, 1)]
    this.redraw()
  }

  /** Values between low and high are spread over all greys. */
  setWindow(low, high) {
    Object.assign(this.window, { low, high })
    const [width, height] = this.size
    const canvas = sheet(width, height)
    const context = canvas.getContext('2d')
    context.drawImage(this.original, 0, 0)
    if (low > 0 || high < 255) {
      const data = context.getImageData(0, 0, width, height)
      const grey = (_, x) => (255 * (x - low)) / (high - low)
      const table = Uint8ClampedArray.from({ length: 256 }, grey)
      for (let i = 0; i < data.data.length; i++) if (i % 4 < 3) data.data[i] = table[data.data[i]]
      context.putImageData(data, 0, 0)
    }
    this.image = canvas
    this.redraw()
  }

  async setOpacity(layer, opacity) {
    this.opacity[layer] = opacity
    if (opacity > 0 && layer in TOPS && !this.heat[layer]) await this.loadHeat(layer)
    this.redraw()
  }

  async loadHeat(layer) {
    const { values } = await this.values(layer)
    const [width, height] = this.size
    const data = new ImageData(width, height)
    const pixels = new Uint32Array(data.data.buffer)
    const table = HEAT.map(([r, g, b], i) => word(r, g, b, i ? 255 : 0))
    const scale = 255 / TOPS[layer]
    for (let i = 0; i < values.length; i++) {
      pixels[i] = table[Math.min(255, Math.round(values[i] * scale))]
    }
    this.heat[layer] = sheet(width, height)
    this.heat[layer].getContext('2d').putImageData(data, 0, 0)
  }

  async values(layer, query = {}) {
    const words = layer === 'probability' ? { class: this.number } : query
    return decodeGrey(await api.layer(this.theCase.id, layer, words))
  }

  async setClass(number) {
    if (number === this.number) return
    this.number = number
    delete this.heat.probability
    await this.setOpacity('probability', this.opacity.probability)
  }

  get votes() {
    return this.theCase.votes ?? 0
  }

  mask = async () => (await this.values('mask')).values
  reviewed = async () => (await this.values('reviewed')).values
  vote = async (k) => (await this.values('votes', { vote: k })).values

  async probability(number) {
    await this.setClass(number)
    return { values: (await this.values('probability')).values, scale: 1 / 255 }
  }

  show(labels, box = [0, 0, this.size[0], this.size[1]]) {
    const [width, height] = this.size
    const [left, top] = [Math.max(0, box[0]), Math.max(0, box[1])]
    const [right, bottom] = [Math.min(width, box[2]), Math.min(height, box[3])]
    if (left >= right || top >= bottom) return
    const data = new ImageData(right - left, bottom - top)
    const pixels = new Uint32Array(data.data.buffer)
    let to = 0
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) pixels[to++] = this.colours[labels[y * width + x]]
    }
    this.overlay.getContext('2d').putImageData(data, left, top)
    this.redraw()
  }

  encode(labels) {
    return encodeGrey(labels, this.size[0], this.size[1])
  }

  close() {
    this.closed = true
    this.observer.disconnect()
    cancelAnimationFrame(this.waiting)
    this.original.close()
  }
}

/** A canvas that is not on the page. */
function sheet(width, height) {
  return Object.assign(document.createElement('canvas'), { width, height })
}

/** A pixel as `ImageData` keeps it, on the little-endian machines that browsers run on. */
const word = (r, g, b, alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0

/** Pixel of each class, `[256]`; the background is transparent. */
function palette(classes) {
  const table = new Uint32Array(256).fill(word(255, 0, 0, 255))
  table[0] = 0
  for (const each of classes) table[each.number] = word(...rgb(each.colour), 255)
  return table
}
