/** What the layer of the mask shows: the model's mask, a threshold, a vote, or the correction. */

import { button, choices, make, select, slider } from './dom.js'
import { percent, volume } from './format.js'
import { counts, thresholded } from './labels.js'

const PAUSE = 600  // ms that each vote is shown

export class Shown {
  /**
   * @param {HTMLElement} root
   * @param {Object} theCase
   * @param {Object} viewer see viewer.js
   * @param {function(Function)} run runs what may fail
   */
  constructor(root, theCase, viewer, run) {
    Object.assign(this, { theCase, viewer, run, source: '', correction: null, vote: 0 })
    this.number = theCase.classes[0].number
    root.replaceChildren(make('h2', {}, 'Mask'))
    const rows = [['model', 'Model']]
    if (theCase.layers.includes('probability')) rows.push(['threshold', 'Threshold'])
    if (viewer.votes) rows.push(['votes', 'Votes'])
    rows.push(['correction', 'Correction'])
    this.choice = choices('source', 'Shown', rows, (source) => run(() => this.choose(source)))
    this.controls = make('div', {})
    this.table = make('tbody', {})
    root.append(this.choice.group, this.controls, volumes(this.table))
  }

  /** Show one of model, threshold, votes, correction. */
  async choose(source) {
    this.stop()
    this.source = source
    this.choice.choose(source)
    this.controls.replaceChildren(...this.controlsOf(source))
    if (source === 'model') await this.showModel()
    if (source === 'threshold') await this.showThreshold()
    if (source === 'votes') await this.showVote(this.vote)
    if (source === 'correction') await this.showCorrection()
  }

  controlsOf(source) {
    if (source === 'threshold') return this.thresholdControls()
    if (source === 'votes') return this.voteControls()
    return []
  }

  async model() {
    this.mask ??= await this.viewer.mask()
    return this.mask
  }

  async showModel() {
    this.show(await this.model())
  }

  thresholdControls() {
    const { classes } = this.theCase
    this.threshold ??= 0.5
    const moved = (value) => {
      this.threshold = value
      this.run(() => this.showThreshold())
    }
    const control = slider('Threshold', {
      min: 0.01, max: 0.99, step: 0.01, value: this.threshold, show: percent, change: moved,
    })
    if (classes.length === 1) return [control.row]
    const names = classes.map((each) => [each.number, each.name])
    const list = select('Class', names, (number) => {
      this.number = Number(number)
      this.run(() => this.showThreshold())
    })
    list.field.value = this.number
    return [list.row, control.row]
  }

  async showThreshold() {
    const { number } = this
    if (this.known?.number !== number) {
      this.known = { number, probability: await this.viewer.probability(number) }
    }
    const mask = await this.model()
    if (this.source !== 'threshold') return
    this.show(thresholded(mask, this.known.probability, number, this.threshold))
  }

  voteControls() {
    const most = this.viewer.votes
    const show = (k) => `${k + 1} of ${most}`
    this.voteSlider = slider('Vote', {
      min: 0, max: most - 1, step: 1, value: this.vote, show,
      change: (k) => this.run(() => this.showVote(k)),
    })
    this.playButton = button('Play', () => this.play(), { 'aria-pressed': 'false' })
    return [this.voteSlider.row, this.playButton]
  }

  async showVote(k) {
    this.vote = k
    const labels = await this.viewer.vote(k)
    if (this.source === 'votes' && this.vote === k) this.show(labels)
  }

  /** Play the votes, or stop. */
  async play() {
    if (!this.viewer.votes) return
    if (this.timer) return this.stop()
    if (this.source !== 'votes') await this.choose('votes')
    this.playButton.textContent = 'Stop'
    this.playButton.setAttribute('aria-pressed', 'true')
    this.timer = setInterval(() => {
      const k = (this.vote + 1) % this.viewer.votes
      this.voteSlider.set(k)
      this.run(() => this.showVote(k))
    }, PAUSE)
  }

  stop() {
    if (!this.timer) return
    clearInterval(this.timer)
    this.timer = null
    this.playButton.textContent = 'Play'
    this.playButton.setAttribute('aria-pressed', 'false')
  }

  /** The correction begins with what is shown, or with the one that was saved. */
  async showCorrection() {
    if (!this.correction && this.theCase.layers.includes('reviewed')) {
      this.correction = await this.viewer.reviewed()
    }
    this.correction ??= (this.labels ?? (await this.model())).slice()
    this.show(this.correction)
  }

  /** Show a label map, of which only `box` has changed if it is given, and measure it. */
  show(labels, box) {
    this.labels = labels
    this.viewer.show(labels, box)
    if (!box) this.measure()
  }

  /** Volumes of what is shown, beside the model's with their intervals. */
  measure() {
    const { classes, unit } = this.theCase
    const found = counts(this.labels)
    this.table.replaceChildren(...classes.map((each) => make('tr', {},
      make('th', { scope: 'row' }, swatch(each.colour), each.name),
      make('td', { class: 'shown' }, volume(found[each.number] * this.viewer.voxel, null, unit)),
      make('td', {}, volume(each.volume, each.volume_interval, unit)))))
  }
}

function volumes(body) {
  const names = ['Class', 'Shown', 'Model, 90 % interval']
  const heads = names.map((text) => make('th', { scope: 'col' }, text))
  const head = make('thead', {}, make('tr', {}, ...heads))
  return make('table', {}, make('caption', { class: 'unseen' }, 'Volumes'), head, body)
}

const swatch = (colour) => make('span', { class: 'swatch', style: `background:${colour}` })
