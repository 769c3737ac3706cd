/**
 * Volumes, drawn by NiiVue. NiiVue keeps voxels in the order right, front, up ("RAS"), whatever the
 * order of the file; so do our label maps. `encode` gives them the order of the file again.
 */

import * as api from './api.js'
import { rgb } from './format.js'
import { TOP_UNCERTAINTY } from './labels.js'
import { viewCanvas } from './dom.js'
import { followStrokes } from './strokes.js'

const OVERLAYS = {
  probability: { colormap: 'hot', cal_min: 0.05, cal_max: 1 },
  uncertainty: { colormap: 'hot', cal_min: 0.01, cal_max: TOP_UNCERTAINTY },
}
const AXES = { 0: 2, 1: 1, 2: 0 }  // NiiVue's axial, coronal, sagittal lie across z, y, x

const OPTIONS = {
  isResizeCanvas: true,
  loadingText: '',
  logLevel: 'error',
  dragAndDropEnabled: false,
  isNearestInterpolation: true,
  isForceMouseClickToVoxelCenters: true,
  isRadiologicalConvention: true,
  smoothDrawing: 1,
  crosshairColor: [0.3, 0.7, 1, 0.6],
  crosshairWidth: 0.3,
  crosshairWidthUnit: 'percent',
  viewModeHotKey: '',
  clipPlaneHotKey: '',
  cycleClipPlaneHotKey: '',
}

/** NiiVue and its canvas, which all volumes share: starting it takes a second. */
let stage = null

/** Show the volume of a case. */
export async function open(root, theCase) {
  const bytes = api.layer(theCase.id, 'image')
  bytes.catch(() => {})  // it is awaited below
  const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER } = await import('./vendor/niivue-0.69.0.js')
  if (stage) root.append(stage.place)
  else {
    const canvas = viewCanvas(root, 'Volume')
    const nv = new Niivue({ ...OPTIONS, multiplanarShowRender: SHOW_RENDER.ALWAYS })
    stage = { nv, canvas, place: canvas.parentElement, viewer: null }
    await nv.attachToCanvas(canvas)
    followStrokes(canvas, () => stage.viewer?.paint, (event) => stage.viewer.pick(event))
  }
  const parse = (url, options) => NVImage.loadFromUrl({ url, name: 'layer.nii.gz', ...options })
  const image = await parse(await bytes, { colormap: 'gray' })
  stage.nv.addVolume(image)
  stage.viewer = new VolumeViewer(theCase, stage, image, parse, SLICE_TYPE)
  return stage.viewer
}

class VolumeViewer {
  constructor(theCase, { canvas, nv }, image, parse, SLICE_TYPE) {
    Object.assign(this, { theCase, canvas, nv, image, parse, paint: null, number: 1 })
    Object.assign(this, { overlays: {}, opacity: { image: 1 } })
    this.layers = ['image', 'mask', 'probability', 'uncertainty'].filter((kind) =>
      theCase.layers.includes(kind))
    this.size = image.dimsRAS.slice(1, 4)
    this.spacing = image.pixDimsRAS.slice(1, 4).map(Math.abs)
    this.voxel = theCase.unit === 'mm3' ? this.spacing.reduce((a, b) => a * b) : 1
    this.views = [
      ['all', 'All', SLICE_TYPE.MULTIPLANAR],
      ['axial', 'Axial', SLICE_TYPE.AXIAL],
      ['coronal', 'Coronal', SLICE_TYPE.CORONAL],
      ['sagittal', 'Sagittal', SLICE_TYPE.SAGITTAL],
      ['render', '3D', SLICE_TYPE.RENDER],
    ]
    nv.setSliceType(SLICE_TYPE.MULTIPLANAR)
    nv.setDrawColormap(colourTable(theCase.classes))
    nv.createEmptyDrawing()
  }

  get window() {
    const { cal_min: low, cal_max: high, global_min: min, global_max: max } = this.image
    return { low, high, min, max }
  }

  setWindow(low, high) {
    Object.assign(this.image, { cal_min: low, cal_max: high })
    this.nv.updateGLVolume()
  }

  setView(name) {
    this.nv.setSliceType(this.views.find((view) => view[0] === name)[2])
  }

  async setOpacity(layer, opacity) {
    if (this.opacity[layer] === opacity) return
    this.opacity[layer] = opacity
    if (layer === 'mask') this.nv.setDrawOpacity(opacity)
    else if (layer === 'image') this.nv.setOpacity(0, opacity)
    else if (opacity > 0 || this.overlays[layer]) {
      const overlay = await this.overlay(layer)
      this.nv.setOpacity(this.nv.volumes.indexOf(overlay), this.opacity[layer])
    }
  }

  /** The overlay of a layer, loaded when it is first needed. */
  async overlay(layer) {
    this.overlays[layer] ??= this.load(layer).then((overlay) => {
      this.nv.addVolume(overlay)
      return overlay
    })
    return this.overlays[layer]
  }

  async load(layer) {
    const query = layer === 'probability' ? { class: this.number } : {}
    const bytes = await api.layer(this.theCase.id, layer, query)
    return this.parse(bytes, { opacity: 0, ...OVERLAYS[layer] })
  }

  async setClass(number) {
    if (number === this.number) return
    this.number = number
    const shown = await this.overlays.probability
    if (!shown) return
    delete this.overlays.probability
    this.nv.removeVolume(shown)
    await this.setOpacity('probability', this.opacity.probability ?? 0)
  }

  async mask() {
    return this.labels('mask')
  }

  async reviewed() {
    return this.labels('reviewed')
  }

  async labels(kind) {
    return this.inOrder(await this.parse(await api.layer(this.theCase.id, kind)), 0)
  }

  async vote(k) {
    this.allVotes ??= api.layer(this.theCase.id, 'votes').then((bytes) => this.parse(bytes))
    return this.inOrder(await this.allVotes, k)
  }

  get votes() {
    return this.theCase.votes ?? 0
  }

  async probability(number) {
    await this.setClass(number)
    const shown = await this.overlay('probability')
    return { values: this.inOrder(shown, 0), scale: shown.hdr.scl_slope || 1 }
  }

  /** One frame of an image in NiiVue's order of voxels. */
  inOrder(source, frame) {
    const [, width, height, depth] = source.dimsRAS
    const count = width * height * depth
    const { img2RASstart: start, img2RASstep: step } = source
    const values = new source.img.constructor(count)
    let to = 0
    for (let z = 0; z < depth; z++) {
      for (let y = 0; y < height; y++) {
        let from = frame * count + start[0] + start[1] + start[2] + y * step[1] + z * step[2]
        for (let x = 0; x < width; x++, from += step[0]) values[to++] = source.img[from]
      }
    }
    return values
  }

  show(labels) {
    this.nv.drawBitmap = labels
    this.nv.refreshDrawing(true)
  }

  async encode(labels) {
    this.nv.drawBitmap = labels
    const bytes = await this.nv.saveImage({ filename: '', isSaveDrawing: true })
    return new Blob([bytes], { type: 'application/octet-stream' })
  }

  /** The voxel under the pointer, and the axis across which its plane lies; nothing outside. */
  pick(event) {
    const box = this.canvas.getBoundingClientRect()
    const scale = this.canvas.width / box.width
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]
    const tile = this.nv.tileIndex(x, y)
    const plane = tile < 0 ? undefined : AXES[this.nv.screenSlices[tile].axCorSag]
    if (plane === undefined) return null
    const place = this.nv.screenXY2TextureFrac(x, y, tile, true)
    if (place[0] < 0) return null
    return { point: this.voxelAt(place), axis: plane }
  }

  voxelAt(place) {
    return Array.from(this.nv.frac2vox(place), (x, k) => Math.min(this.size[k] - 1, Math.max(0, x)))
  }

  cursor() {
    const plane = AXES[this.nv.opts.sliceType]
    return { point: this.voxelAt(this.nv.scene.crosshairPos), axis: plane ?? 2 }
  }

  move(dx, dy, dz) {
    this.nv.moveCrosshairInVox(dx, dy, dz)
  }

  close() {
    stage.viewer = null
    this.nv.closeDrawing()
    this.nv.volumes = []
    this.nv.scene.crosshairPos = [0.5, 0.5, 0.5]
  }
}

/** NiiVue's table of colours, from the classes of a case. */
function colourTable(classes) {
  const rows = classes.map((each) => [...rgb(each.colour), 255, each.number])
  const table = [[0, 0, 0, 0, 0], ...rows]
  const column = (k) => table.map((row) => row[k])
  return {
    R: column(0), G: column(1), B: column(2), A: column(3), I: column(4),
    labels: ['background', ...classes.map((each) => each.name)],
  }
}
