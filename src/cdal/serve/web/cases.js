/** The list of cases, worst expected Dice first, as the server orders them. */

import { make } from './dom.js'
import { score, volume, worst } from './format.js'
import { PAST } from './review.js'

export class CaseList {
  /**
   * @param {HTMLElement} root a list
   * @param {function(Object)} open is called with a case
   */
  constructor(root, open) {
    Object.assign(this, { root, open, cases: [], current: '' })
    root.addEventListener('keydown', (event) => this.moveBy(event))
  }

  show(cases) {
    this.cases = cases
    this.root.replaceChildren(...cases.map((each) => make('li', {}, this.entry(each))))
    if (!cases.length) {
      this.root.append(make('li', { class: 'empty' }, 'No cases yet. Drop an image here.'))
    }
    this.mark(this.current)
  }

  entry(theCase) {
    const name = make('span', { class: 'name' }, theCase.name)
    const click = () => this.open(theCase)
    const about = { type: 'button', 'data-id': theCase.id, class: 'case', click }
    return make('button', about, name, ...chips(theCase))
  }

  /** Show anew what is known of one case. */
  update(theCase) {
    const index = this.cases.findIndex((each) => each.id === theCase.id)
    if (index < 0) return
    this.cases[index] = theCase
    this.root.children[index].replaceChildren(this.entry(theCase))
    this.mark(this.current)
  }

  /** Mark the case that is open. Only one entry of the list can be reached with Tab. */
  mark(id) {
    this.current = id
    const entries = [...this.root.querySelectorAll('.case')]
    const current = entries.find((entry) => entry.dataset.id === id) ?? entries[0]
    for (const entry of entries) {
      entry.tabIndex = entry === current ? 0 : -1
      if (entry.dataset.id === id) entry.setAttribute('aria-current', 'true')
      else entry.removeAttribute('aria-current')
    }
    if (current?.dataset.id === id) current.scrollIntoView({ block: 'nearest' })
  }

  moveBy(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step) return
    const entries = [...this.root.querySelectorAll('.case')]
    entries[entries.indexOf(document.activeElement) + step]?.focus()
    event.preventDefault()
  }
}

/** What is to know at a glance. */
function chips(theCase) {
  const found = []
  const low = worst(theCase.classes)
  const chip = (text, kind = '') => found.push(make('span', { class: `chip ${kind}` }, text))
  if (theCase.state === 'failed') chip('failed', 'bad')
  else if (theCase.state === 'new') chip('not segmented')
  else if (theCase.state === 'changed') chip('image changed', 'bad')
  const doubtful = theCase.verdict === 'review' ? 'bad' : ''
  if (low) chip(`Dice ${score(low.expected_dice, low.dice_interval)}`, doubtful)
  for (const { name, volume: size, volume_interval: interval } of theCase.classes) {
    if (size != null) chip(`${name} ${volume(size, interval, theCase.unit)}`)
  }
  const warnings = theCase.warnings.length
  if (warnings) chip(`\u26a0 ${warnings} warning${warnings > 1 ? 's' : ''}`, 'warn')
  if (theCase.review) chip(PAST[theCase.review.verdict], 'done')
  return found
}
