/** The panel of layers: opacities, whose probability is shown, window and level, and the planes. */

import { choices, make, select, slider } from './dom.js'
import { percent } from './format.js'

const NAMES = {
  image: 'Image', mask: 'Mask', probability: 'Probability', uncertainty: 'Uncertainty',
}
const START = { image: 1, mask: 0.5, probability: 0, uncertainty: 0 }
const SHOWN = { image: 1, mask: 0.5, probability: 0.6, uncertainty: 0.6 }

export class Layers {
  /**
   * @param {HTMLElement} root
   * @param {Object} theCase
   * @param {Object} viewer see viewer.js
   * @param {function(Promise)} run runs what may fail
   */
  constructor(root, theCase, viewer, run) {
    Object.assign(this, { viewer, run, sliders: {}, values: {} })
    root.replaceChildren(make('h2', {}, 'Layers'))
    const start = viewer.outlines ? { ...START, mask: 1 } : START
    for (const layer of viewer.layers) {
      this.sliders[layer] = slider(NAMES[layer], {
        value: start[layer], step: 0.05, show: percent, change: (value) => this.set(layer, value),
      })
      root.append(this.sliders[layer].row)
      this.set(layer, start[layer])
    }
    if (viewer.layers.includes('probability') && theCase.classes.length > 1) {
      const classes = theCase.classes.map((each) => [each.number, each.name])
      const change = (number) => run(() => viewer.setClass(Number(number)))
      root.append(select('Probability of', classes, change).row)
    }
    if (viewer.window) root.append(...this.windowSliders())
    if (viewer.views) root.append(this.planes())
  }

  set(layer, value) {
    this.values[layer] = value
    this.sliders[layer].set(value)
    this.run(() => this.viewer.setOpacity(layer, value))
  }

  /** Hide a layer, or show it again. */
  toggle(layer) {
    if (!(layer in this.sliders)) return
    if (this.values[layer] > 0) SHOWN[layer] = this.values[layer]
    this.set(layer, this.values[layer] > 0 ? 0 : SHOWN[layer])
  }

  windowSliders() {
    const { low, high, min, max } = this.viewer.window
    const step = max - min >= 100 ? 1 : Math.max((max - min) / 256, Number.EPSILON)
    const show = (value) => String(Number(value.toPrecision(4)))
    const change = () => {
      const [from, to] = [Number(bottom.input.value), Number(top.input.value)]
      this.viewer.setWindow(Math.min(from, to - step), to)
    }
    const bottom = slider('Black', { min, max, step, value: low, show, change })
    const top = slider('White', { min, max, step, value: high, show, change })
    return [bottom.row, top.row]
  }

  planes() {
    const rows = this.viewer.views.map(([name, text]) => [name, text])
    const { group, choose } = choices('view', 'View', rows, (name) => this.viewer.setView(name))
    choose(rows[0][0])
    return group
  }
}
