/** The loop: train from reviewed cases, watch the curve, compare on held-out cases, adopt. */

import * as api from './api.js'
import { attempt, button, byId, make, say } from './dom.js'
import { score } from './format.js'

const ASK = 2000  // ms between questions while a training is running
const [WIDTH, HEIGHT, EDGE] = [260, 120, 24]
const STATES = {
  idle: '', running: 'Training', stopping: 'Stopping', done: 'Done', failed: 'Failed',
  stopped: 'Stopped',
}
const UNDER_WAY = ['running', 'stopping']
const NOT_COMPARED = 'Too few cases are reviewed to hold some out, so the models are not compared.'

export class Training {
  /**
   * @param {HTMLElement} root
   * @param {function(): string} model name of the chosen model
   * @param {function(string)} adopted is called with the name of a new model
   */
  constructor(root, model, adopted) {
    Object.assign(this, { model, adopted })
    this.minutes = make('input', { type: 'number', min: 1, max: 1440, value: 10, id: 'minutes' })
    const begin = () => attempt(() => this.begin())
    this.start = button('Train from reviewed cases', begin, { class: 'main' })
    this.stop = button('Stop', () => attempt(() => this.end()))
    this.line = make('p', { role: 'status' })
    this.body = make('div', {})
    root.append(
      make('label', {}, 'Minutes ', this.minutes),
      make('div', { class: 'buttons' }, this.start, this.stop), this.line, this.body)
    attempt(() => this.ask())
  }

  async begin() {
    await api.train(this.model(), Number(this.minutes.value))
    await this.ask()
  }

  async end() {
    await api.stopTraining()
    await this.ask()
  }

  /** Show how it stands, and ask again while it is running. */
  async ask() {
    clearTimeout(this.timer)
    const state = await api.training()
    this.show(state)
    if (UNDER_WAY.includes(state.state)) {
      this.timer = setTimeout(() => attempt(() => this.ask()), ASK)
    }
  }

  show({ state, curve, message, result }) {
    const running = UNDER_WAY.includes(state)
    this.start.disabled = running
    this.stop.disabled = state !== 'running'
    const why = message || (state === 'done' && !result ? NOT_COMPARED : '')
    this.line.textContent = [STATES[state], why].filter(Boolean).join('. ')
    this.body.replaceChildren(
      ...(curve?.length ? [drawCurve(curve)] : []), ...(result ? [this.compare(result)] : []))
    byId('training').open ||= running || Boolean(result)
  }

  /** Dice on held-out reviewed cases before and after, and the offer. */
  compare({ model, before, after, cases, better }) {
    const rows = Object.keys(after).map((name) => make('tr', {},
      make('th', { scope: 'row' }, name),
      make('td', {}, score(before[name])),
      make('td', {}, score(after[name]))))
    const heads = ['Class', 'Before', 'After'].map((text) => make('th', { scope: 'col' }, text))
    const table = make('table', {},
      make('caption', {}, `Dice on ${cases} reviewed cases that the training has not seen`),
      make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows))
    const offer = better
      ? button(`Adopt ${model}`, () => attempt(() => this.adopt()), { class: 'main' })
      : make('p', {}, 'The new model is not better; it is not offered.')
    return make('div', {}, table, offer)
  }

  async adopt() {
    const { model } = await api.adopt()
    say(`${model} can now be chosen, beside the model that it comes from.`)
    this.adopted(model)
  }
}

/** The learning curve: the loss, and the Dice of validation on its own scale from 0 to 1. */
export function drawCurve(curve) {
  const last = Math.max(1, curve.at(-1).step)
  const losses = curve.filter((row) => row.loss != null)
  const most = Math.max(...losses.map((row) => row.loss), Number.EPSILON)
  const x = (step) => EDGE + ((WIDTH - 2 * EDGE) * step) / last
  const y = (share) => HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * share
  const place = (row, share) => `${x(row.step).toFixed(1)},${y(share(row)).toFixed(1)}`
  const line = (rows, share, name) => shape('polyline', {
    class: name, points: rows.map((row) => place(row, share)).join(' '),
  })
  const dice = curve.filter((row) => row.dice != null)
  const low = `loss ${losses.at(-1)?.loss.toPrecision(3) ?? '-'}`
  const best = dice.length ? `, Dice ${score(dice.at(-1).dice)}` : ''
  const title = `Step ${curve.at(-1).step}: ${low}${best}`
  const viewBox = `0 0 ${WIDTH} ${HEIGHT}`
  const about = { viewBox, role: 'img', 'aria-label': title, class: 'curve' }
  const picture = shape('svg', about,
    shape('path', { class: 'axes', d: `M${EDGE} ${EDGE}V${HEIGHT - EDGE}H${WIDTH - EDGE}` }),
    line(losses, (row) => row.loss / most, 'loss'),
    line(dice, (row) => row.dice, 'dice'))
  return make('figure', {}, picture, make('figcaption', {}, title))
}

function shape(name, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}
