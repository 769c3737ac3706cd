/** The page: the list of cases, the open case, uploads, the loop and the keys, put together. */

import * as api from './api.js'
import { CaseList } from './cases.js'
import { Desk } from './desk.js'
import { attempt, byId, make, say } from './dom.js'
import { useKeys } from './keys.js'
import { Training } from './training.js'
import { Progress, takeFiles } from './upload.js'

const list = new CaseList(byId('cases'), (each) => attempt(() => open(each.id)))
const desk = new Desk((each) => list.update(each), (each) => attempt(() => segment(each)))
const model = () => byId('model').value

/** Open a case, unless a correction would be lost. */
async function open(id, focus = true) {
  if (desk.unsaved && !window.confirm('The correction is not saved. Leave it?')) return
  list.mark(id)
  history.replaceState(null, '', `#${id}`)
  await desk.open(id)
  if (focus) document.querySelector('#viewer [tabindex]')?.focus()
}

async function refresh() {
  list.show(await api.cases((fault) => say(fault, true)))
}

async function refreshModels(chosen = model()) {
  const found = await api.models()
  byId('model').replaceChildren(...found.map(({ name }) => make('option', { value: name }, name)))
  if (found.some(({ name }) => name === chosen)) byId('model').value = chosen
  for (const element of document.querySelectorAll('.needs-model')) element.hidden = !found.length
}

/** Segment a case that the server has, with the chosen model. */
async function segment(theCase) {
  const job = new Progress(theCase.name)
  const sent = await attempt(() => api.predictCase(theCase.id, model()))
  if (!sent) return job.remove()
  return arrived(theCase.id, await job.follow(sent.job))
}

/** The segmentation of a case has ended; if it is done, it is shown. */
async function arrived(id, state) {
  await refresh()
  if (state === 'done') await open(id)
}

async function next() {
  const id = await api.nextCase()
  if (id) await open(id)
  else say('All cases are reviewed.')
}

const onCanvas = (action) => (event, canvas) => (canvas ? action(event) : false)
const moved = (dx, dy, dz) => onCanvas(() => desk.viewer?.move?.(dx, dy, dz))
const zoomed = (factor) => () => desk.viewer?.zoomBy?.(factor)
const tool = (name) => () => attempt(() => desk.correction?.use(name))
const wider = (step) => () => desk.correction?.setWidth(desk.correction.width + step)

useKeys([
  ['a', 'a', 'accept the mask', () => attempt(() => desk.review?.give('accept'))],
  ['f', 'f', 'fix it: take the brush; then, save', () => attempt(() => desk.fix())],
  ['r', 'r', 'reject it', () => attempt(() => desk.review?.give('reject'))],
  ['n', 'n', 'next case', () => attempt(next)],
  ['1', '1', 'image', () => desk.layers?.toggle('image')],
  ['2', '2', 'mask', () => desk.layers?.toggle('mask')],
  ['3', '3', 'probability', () => desk.layers?.toggle('probability')],
  [' ', 'space', 'uncertainty', () => desk.layers?.toggle('uncertainty')],
  ['v', 'v', 'play the votes, or stop', () => attempt(() => desk.shown?.play())],
  ['b', 'b', 'brush', tool('brush')],
  ['e', 'e', 'eraser', tool('erase')],
  ['g', 'g', 'fill', tool('fill')],
  ['Escape', 'Esc', 'put the tool away', tool('look')],
  ['[', '[', 'smaller brush', wider(-2)],
  [']', ']', 'larger brush', wider(2)],
  ['i', 'i', 'interpolate between corrected slices', () => desk.correction?.interpolate()],
  ['z', 'z', 'undo', () => desk.correction?.undo()],
  ['s', 's', 'save the correction', () => attempt(() => desk.correction?.save())],
  ['ArrowLeft', '\u2190', 'left, in the image', moved(-1, 0, 0)],
  ['ArrowRight', '\u2192', 'right, in the image', moved(1, 0, 0)],
  ['ArrowUp', '\u2191', 'up, in the image', moved(0, 1, 0)],
  ['ArrowDown', '\u2193', 'down, in the image', moved(0, -1, 0)],
  ['PageUp', 'Page up', 'next slice, in the image', moved(0, 0, 1)],
  ['PageDown', 'Page down', 'slice before, in the image', moved(0, 0, -1)],
  ['Enter', 'Enter', 'use the tool at the cross, in the image',
    onCanvas(() => desk.correction?.stampAtCursor())],
  ['+', '+', 'zoom in (pictures)', zoomed(1.25)],
  ['-', '-', 'zoom out (pictures)', zoomed(0.8)],
  ['0', '0', 'whole picture', () => desk.viewer?.fit?.()],
  ['?', '?', 'this help', () => byId('help').showModal()],
])

byId('open-help').addEventListener('click', () => byId('help').showModal())
byId('next').addEventListener('click', () => attempt(next))
window.addEventListener('beforeunload', (event) => desk.unsaved && event.preventDefault())

attempt(async () => {
  takeFiles(model, (id, state) => attempt(() => arrived(id, state)))
  await refreshModels()
  await refresh()
  if (model()) new Training(byId('loop'), model, (name) => attempt(() => refreshModels(name)))
  const named = list.cases.find(({ id }) => `#${id}` === location.hash)  // a link to a case
  const first = named ?? list.cases[0]
  if (first) await open(first.id, false)
})
