/** The case that is open: its viewer, and the panels beside it. */

import * as api from './api.js'
import { attempt, button, byId, make } from './dom.js'
import { Correction } from './correct.js'
import { Layers } from './layers.js'
import { Review } from './review.js'
import { Shown } from './shown.js'
import { openViewer } from './viewer.js'

const PANELS = ['layers', 'shown', 'correct', 'review']

export class Desk {
  /**
   * @param {function(Object)} changed is called with a case whose review has changed
   * @param {function(Object)} segment is called with a case that shall be segmented
   */
  constructor(changed, segment) {
    Object.assign(this, { changed, segment, viewer: null, case: null })
    Object.assign(this, { turn: 0, opening: Promise.resolve() })
  }

  /** Whether a correction would be lost. */
  get unsaved() {
    return Boolean(this.correction?.unsaved)
  }

  /** Open a case, after the one that is being opened; of several that wait, only the last. */
  open(id) {
    const turn = ++this.turn
    const load = () => (turn === this.turn ? this.load(id) : undefined)
    this.opening = this.opening.then(load, load)
    return this.opening
  }

  async load(id) {
    this.close()
    byId('busy').hidden = false
    try {
      const theCase = withClasses(await api.oneCase(id))
      byId('title').textContent = theCase.name
      if (theCase.message) byId('review').append(make('p', { class: 'warnings' }, theCase.message))
      const viewer = await openViewer(byId('viewer'), theCase)
      Object.assign(this, { case: theCase, viewer })
      await this.furnish(theCase, viewer)
    } finally {
      byId('busy').hidden = true
    }
  }

  async furnish(theCase, viewer) {
    const run = (action) => attempt(action)
    this.layers = new Layers(byId('layers'), theCase, viewer, run)
    const again = button('Segment', () => this.segment(theCase), { class: 'needs-model' })
    again.hidden = !byId('model').options.length
    byId('actions').replaceChildren(again, ...downloads(theCase))
    if (!viewer.layers.includes('mask')) return
    const fix = viewer.outlines ? null : () => this.fix()
    this.review = new Review(byId('review'), theCase, run, this.changed, fix)
    if (viewer.outlines) return
    this.shown = new Shown(byId('shown'), theCase, viewer, run)
    const saved = (review) => this.review.take(review)
    this.correction = new Correction(byId('correct'), theCase, viewer, this.shown, run, saved)
    await this.shown.choose(theCase.layers.includes('reviewed') ? 'correction' : 'model')
  }

  close() {
    this.shown?.stop()
    this.viewer?.close()
    for (const panel of PANELS) byId(panel).replaceChildren()
    for (const place of ['viewer', 'actions', 'title']) byId(place).replaceChildren()
    for (const part of ['viewer', 'case', 'layers', 'shown', 'correction', 'review']) {
      this[part] = null
    }
  }

  /** Take the brush; if something was drawn, save it. */
  async fix() {
    if (this.unsaved) await this.correction.save()
    else await this.correction?.use('brush')
  }
}

/** Records of older versions do not name the classes; then there is one. */
function withClasses(theCase) {
  if (!theCase.classes.length) theCase.classes = [{ name: 'class 1', number: 1, colour: '#e69f00' }]
  return theCase
}

/** Links to the files of a result. */
function downloads(theCase) {
  return theCase.files.map((kind) =>
    make('a', { href: api.fileOf(theCase.id, kind), download: '' }, kind))
}
