/** Correcting a mask: tools, size, undo, interpolation, saving. */

import * as api from './api.js'
import { button, choices, make, say, select, slider } from './dom.js'
import { Edit } from './edit.js'

const TOOLS = [['look', 'Look'], ['brush', 'Brush'], ['erase', 'Eraser'], ['fill', 'Fill']]
const MOST_WIDTH = 41

export class Correction {
  /**
   * @param {HTMLElement} root
   * @param {Object} theCase
   * @param {Object} viewer see viewer.js
   * @param {Shown} shown
   * @param {function(Function)} run runs what may fail
   * @param {function(Object)} saved is called with the review
   */
  constructor(root, theCase, viewer, shown, run, saved) {
    Object.assign(this, { theCase, viewer, shown, run, saved, tool: 'look', width: 5, edit: null })
    this.number = theCase.classes[0].number
    this.unsaved = false
    this.tools = choices('tool', 'Tool', TOOLS, (tool) => run(() => this.use(tool)))
    this.tools.choose('look')
    this.size = slider('Size', {
      min: 1, max: MOST_WIDTH, step: 2, value: this.width, show: (x) => `${x}`,
      change: (width) => (this.width = width),
    })
    const classes = theCase.classes.map((each) => [each.number, each.name])
    const draws = select('Draws', classes, (number) => (this.number = Number(number)))
    const planar = viewer.size[2] === 1
    root.replaceChildren(
      make('h2', {}, 'Correct'), this.tools.group, draws.row, this.size.row,
      make('div', { class: 'buttons' },
        button('Undo', () => this.undo()),
        ...(planar ? [] : [button('Interpolate slices', () => this.interpolate())]),
        button('Start again', () => run(() => this.restart())),
        button('Save correction', () => run(() => this.save()), { class: 'main' })))
  }

  /** Take a tool: look, brush, erase or fill. */
  async use(tool) {
    this.tool = tool
    this.tools.choose(tool)
    this.viewer.paint = tool === 'look' ? null : this.strokes()
    this.viewer.canvas.classList.toggle('painting', tool !== 'look')
    if (tool !== 'look') await this.begin()
  }

  /** Make what is shown the correction. */
  async begin() {
    if (this.shown.source !== 'correction') await this.shown.choose('correction')
    const { correction } = this.shown
    if (this.edit?.labels !== correction) {
      this.edit = new Edit(correction, this.viewer.size, this.viewer.spacing)
    }
  }

  strokes() {
    let last = null
    return {
      down: ({ point, axis }) => {
        if (this.shown.source !== 'correction') return
        last = point
        this.edit.begin(axis, point[axis])
        this.apply(point, point, axis)
      },
      move: ({ point, axis }) => {
        if (!last || this.tool === 'fill') return
        this.apply(last, point, axis)
        last = point
      },
      up: () => {
        last = null
        this.finish(this.edit.end())
      },
    }
  }

  apply(from, to, axis) {
    const number = this.tool === 'erase' ? 0 : this.number
    if (this.tool === 'fill') {
      this.edit.fill(to, axis, number)
      return this.shown.show(this.edit.labels)
    }
    if (from === to) this.edit.stamp(to, axis, this.width, number)
    else this.edit.line(from, to, axis, this.width, number)
    const reach = Math.ceil(this.width / 2)
    const ends = [0, 1].map((k) => [from[k], to[k]])
    this.shown.show(this.edit.labels, [
      ...ends.map((pair) => Math.min(...pair) - reach),
      ...ends.map((pair) => Math.max(...pair) + reach),
    ])
    return undefined
  }

  /** Use the tool where the keyboard is. */
  stampAtCursor() {
    if (this.tool === 'look' || !this.edit) return
    const { down, up } = this.viewer.paint
    down(this.viewer.cursor())
    up()
  }

  /** After a change. */
  finish(changed) {
    if (!changed) return
    this.unsaved = true
    this.shown.show(this.edit.labels)
  }

  undo() {
    if (this.edit?.undo()) this.finish(true)
    else say('There is nothing to undo.')
  }

  interpolate() {
    const { axis } = this.viewer.cursor()
    const planes = this.edit?.steps.map((step) => step.axis) ?? []
    const count = this.edit?.interpolate(planes.at(-1) ?? axis, this.number) ?? 0
    this.finish(count > 0)
    say(count ? `${count} slices were interpolated.`
      : 'Correct two slices first; those between them are interpolated.')
  }

  /** Forget the correction, and begin with the model's mask. */
  async restart() {
    const labels = (await this.shown.model()).slice()
    this.edit = null
    this.shown.correction = labels
    this.unsaved = false
    if (this.tool !== 'look') await this.begin()
    this.shown.show(labels)
  }

  setWidth(width) {
    this.width = Math.min(MOST_WIDTH, Math.max(1, width))
    this.size.set(this.width)
  }

  async save() {
    await this.begin()
    const review = await api.correct(this.theCase.id, await this.viewer.encode(this.edit.labels))
    this.unsaved = false
    if (!this.theCase.layers.includes('reviewed')) this.theCase.layers.push('reviewed')
    this.saved(review)
  }
}
