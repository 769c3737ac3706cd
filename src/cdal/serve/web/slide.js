/** Slides: OpenSeadragon over the server's tiles, and the objects as outlines above them. */

import * as api from './api.js'
import { make } from './dom.js'

const CELL = 1024  // pixels; outlines are kept in cells, of which only those in view are drawn

/** Show the slide of a case. */
export async function open(root, theCase) {
  await loadScript('vendor/openseadragon-6.1.1.min.js')
  const { width, height, tile, levels } = await api.tiles(theCase.id)
  const place = make('div', { class: 'view', role: 'application', 'aria-label': 'Slide' })
  root.append(place)
  const viewer = window.OpenSeadragon({
    element: place,
    showNavigationControl: false,
    showNavigator: false,
    immediateRender: true,
    drawer: 'canvas',
    gestureSettingsMouse: { clickToZoom: false },
    tileSources: {
      width, height, tileSize: tile, minLevel: 0, maxLevel: levels - 1,
      getTileUrl: (level, x, y) => api.tileOf(theCase.id, level, x, y),
    },
  })
  const opened = await new Promise((resolve) => {
    viewer.addOnceHandler('open', () => resolve(''))
    viewer.addOnceHandler('open-failed', (event) => resolve(event.message))
  })
  if (opened) throw new Error(opened)
  const slide = new SlideViewer(theCase, viewer)
  await slide.loadObjects()
  return slide
}

class SlideViewer {
  constructor(theCase, viewer) {
    Object.assign(this, { theCase, viewer, cells: new Map(), votes: 0 })
    this.layers = ['image', 'mask']
    this.outlines = true
    this.canvas = make('canvas', { class: 'outlines' })
    viewer.canvas.append(this.canvas)
    for (const event of ['update-viewport', 'resize', 'open']) {
      viewer.addHandler(event, () => this.draw())
    }
  }

  async loadObjects() {
    if (!this.theCase.layers.includes('mask')) return
    const colours = new Map(this.theCase.classes.map((each) => [each.name, each.colour]))
    const { features } = await api.objects(this.theCase.id)
    this.count = features.length
    for (const feature of features) {
      const { type, coordinates } = feature.geometry
      const name = feature.properties?.classification?.name
      for (const rings of type === 'Polygon' ? [coordinates] : coordinates) {
        this.keep(rings, colours.get(name) ?? '#e69f00')
      }
    }
    this.draw()
  }

  /** Keep the outlines of a polygon in the cell of its first corner. */
  keep(rings, colour) {
    const [x, y] = rings[0][0]
    const key = `${Math.floor(x / CELL)} ${Math.floor(y / CELL)} ${colour}`
    if (!this.cells.has(key)) {
      const box = [Infinity, Infinity, -Infinity, -Infinity]
      this.cells.set(key, { colour, path: new Path2D(), box })
    }
    const { path, box } = this.cells.get(key)
    for (const ring of rings) {
      ring.forEach(([a, b], i) => {
        if (i) path.lineTo(a, b)
        else path.moveTo(a, b)
        box[0] = Math.min(box[0], a)
        box[1] = Math.min(box[1], b)
        box[2] = Math.max(box[2], a)
        box[3] = Math.max(box[3], b)
      })
      path.closePath()
    }
  }

  draw() {
    const { viewport, container } = this.viewer
    const ratio = window.devicePixelRatio
    this.canvas.width = container.clientWidth * ratio
    this.canvas.height = container.clientHeight * ratio
    const image = this.viewer.world.getItemAt(0)
    if (!image) return
    const origin = image.imageToViewerElementCoordinates(new window.OpenSeadragon.Point(0, 0))
    const scale = image.viewportToImageZoom(viewport.getZoom(true))
    const context = this.canvas.getContext('2d')
    context.setTransform(scale * ratio, 0, 0, scale * ratio, origin.x * ratio, origin.y * ratio)
    context.lineWidth = 2 / scale
    const [left, top] = [-origin.x / scale, -origin.y / scale]
    const right = left + container.clientWidth / scale
    const bottom = top + container.clientHeight / scale
    for (const { path, box, colour } of this.cells.values()) {
      if (box[0] > right || box[1] > bottom || box[2] < left || box[3] < top) continue
      context.strokeStyle = colour
      context.stroke(path)
    }
  }

  async setOpacity(layer, opacity) {
    if (layer === 'image') this.viewer.world.getItemAt(0).setOpacity(opacity)
    else this.canvas.style.opacity = opacity
  }

  async setClass() {}  // slides show no probability

  close() {
    this.viewer.destroy()
  }
}

function loadScript(source) {
  if (window.OpenSeadragon) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const script = make('script', { src: source, load: resolve })
    script.addEventListener('error', () => reject(new Error(`${source} cannot be loaded.`)))
    document.head.append(script)
  })
}
