/** The keys, and the dialog that lists them. */

import { byId, make } from './dom.js'

/**
 * Listen to keys, and list them in the dialog of help.
 * @param {Array<[string, string, string, function(KeyboardEvent, boolean)]>} table key, its name,
 *     what it does, and the action, which gets whether the image has the focus. An action that
 *     returns false leaves the key to the browser.
 */
export function useKeys(table) {
  const actions = new Map(table.map(([key, , , action]) => [key, action]))
  // in the capturing phase: NiiVue has keys of its own
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId('help').open) return
    const onCanvas = Boolean(event.target.closest?.('.view'))
    const action = actions.get(event.key)
    if (onCanvas && event.key !== 'Tab') event.stopPropagation()
    if (!action || isTyping(event.target, event.key)) return
    if (action(event, onCanvas) === false) return
    event.preventDefault()
  }, true)
  byId('keys').replaceChildren(...table.map(([, name, about]) => make('tr', {},
    make('th', { scope: 'row' }, make('kbd', {}, name)), make('td', {}, about))))
}

/** Whether an element needs a key itself. */
function isTyping(target, key) {
  const tag = target.tagName
  if (tag === 'TEXTAREA' || tag === 'SELECT') return true
  if (tag === 'INPUT') {
    if (!['radio', 'range'].includes(target.type)) return true
    return moves(key) || (key === ' ' && target.type === 'radio' && !target.checked)
  }
  return ['BUTTON', 'SUMMARY', 'A'].includes(tag) && (moves(key) || key === ' ' || key === 'Enter')
}

const moves = (key) => key.startsWith('Arrow') || key.startsWith('Page')
