/** Making and finding elements. Text always becomes text, never markup. */

/**
 * Make an element.
 * @param {string} tag name of the element.
 * @param {Object} attributes attributes; functions listen to the event that they are named after.
 * @param {...(Node|string|number)} children its content; what is not a node becomes text.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false && value != null) element.setAttribute(name, value)
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))))
  return element
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id)

/** A slider with its label and its value: `change(value)` is called while it moves. */
export function slider(label, { min = 0, max = 1, step = 0.01, value, show = String, change }) {
  const shown = make('output', {}, show(value))
  const input = make('input', {
    type: 'range', min, max, step, value,
    'aria-valuetext': show(value),
    input: () => {
      set(Number(input.value))
      change(Number(input.value))
    },
  })
  const set = (number) => {
    input.value = number
    shown.value = show(number)
    input.setAttribute('aria-valuetext', show(number))
  }
  const row = make('label', { class: 'slider' }, make('span', {}, label), input, shown)
  return { row, input, set }
}

/** A group of choices of which one is chosen: `choices` are `[value, text]`. */
export function choices(name, legend, rows, change) {
  const group = make('fieldset', { class: 'choices' }, make('legend', {}, legend))
  for (const [value, text] of rows) {
    const input = make('input', { type: 'radio', name, value, change: () => change(value) })
    group.append(make('label', {}, input, make('span', {}, text)))
  }
  const choose = (value) => {
    for (const input of group.querySelectorAll('input')) input.checked = input.value === value
  }
  return { group, choose }
}

/** A choice from a list: `options` are `[value, text]`. */
export function select(label, options, change) {
  const field = make('select', { change: () => change(field.value) },
    ...options.map(([value, text]) => make('option', { value }, text)))
  return { row: make('label', { class: 'select' }, make('span', {}, label), field), field }
}

/** A canvas that fills the viewer, and takes keys. */
export function viewCanvas(root, name) {
  const about = { class: 'view', tabindex: 0, role: 'application', 'aria-label': name }
  const canvas = make('canvas', about)
  root.append(make('div', { class: 'view' }, canvas))
  return canvas
}

/** A button. */
export const button = (text, click, attributes = {}) =>
  make('button', { type: 'button', click, ...attributes }, text)

/** Say something to everybody, screen readers included. */
export function say(text, error = false) {
  const line = byId('status')
  line.textContent = text
  line.classList.toggle('error', error)
}

/** Run an action, and say what went wrong. */
export async function attempt(action) {
  try {
    return await action()
  } catch (error) {
    say(error.message, true)
    return undefined
  }
}
