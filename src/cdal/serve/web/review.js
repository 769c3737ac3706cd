/** The facts about a case, and the verdict on it. */

import * as api from './api.js'
import { button, make, say } from './dom.js'
import { score } from './format.js'

const VERDICTS = [['accept', 'Accept', 'a'], ['fix', 'Fix', 'f'], ['reject', 'Reject', 'r']]
export const PAST = { accept: 'accepted', fix: 'corrected', reject: 'rejected' }

/** How a review is told: its verdict, and the Dice of a correction with the prediction. */
export function told(review) {
  if (!review) return 'not reviewed'
  const dice = Object.entries(review.dice ?? {}).map(([name, value]) => `${name} ${score(value)}`)
  const word = PAST[review.verdict]
  return dice.length ? `${word}; Dice with the model: ${dice.join(', ')}` : word
}

export class Review {
  /**
   * @param {HTMLElement} root
   * @param {Object} theCase
   * @param {function(Function)} run runs what may fail
   * @param {function(Object)} saved is called with the case after a verdict
   * @param {?function()} fix begins or saves a correction, after which the verdict is fix; null if
   *     the viewer cannot draw
   */
  constructor(root, theCase, run, saved, fix) {
    Object.assign(this, { theCase, saved, fix })
    this.line = make('p', { class: 'verdict' }, told(theCase.review))
    this.buttons = VERDICTS.map(([verdict, text, key]) => {
      const about = { 'aria-keyshortcuts': key, title: `Key ${key}` }
      return button(text, () => run(() => this.give(verdict)), about)
    })
    this.buttons[1].hidden = !fix
    const row = make('div', { class: 'buttons' }, ...this.buttons)
    root.replaceChildren(make('h2', {}, 'Review'), ...facts(theCase), row, this.line)
    this.mark()
  }

  async give(verdict) {
    if (verdict === 'fix') return this.fix()
    this.take(await api.review(this.theCase.id, verdict))
    return undefined
  }

  /** Show a review that was saved. */
  take(review) {
    this.theCase.review = review
    say(`${this.theCase.name}: ${told(review)}.`)
    this.line.textContent = told(review)
    this.mark()
    this.saved(this.theCase)
  }

  mark() {
    VERDICTS.forEach(([verdict], k) => {
      const given = this.theCase.review?.verdict === verdict
      this.buttons[k].setAttribute('aria-pressed', String(given))
    })
  }
}

/** Expected Dice of each class, and the warnings. */
function facts(theCase) {
  const rows = theCase.classes.map((each) => make('tr', {},
    make('th', { scope: 'row' }, each.name),
    make('td', {}, score(each.expected_dice, each.dice_interval))))
  const names = ['Class', 'Expected Dice, 90 % interval']
  const heads = names.map((text) => make('th', { scope: 'col' }, text))
  const table = make('table', {},
    make('caption', { class: 'unseen' }, 'Expected quality'),
    make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows))
  const warnings = theCase.warnings.map((text) => make('li', {}, text))
  const list = make('ul', { class: 'warnings', 'aria-label': 'Warnings' }, ...warnings)
  return warnings.length ? [table, list] : [table]
}
