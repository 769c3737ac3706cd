/** Files dropped or chosen: they are sent to the server, segmented, and followed to their end. */

import * as api from './api.js'
import { attempt, button, byId, make, say } from './dom.js'
import { percent } from './format.js'

/**
 * Take files that are dropped anywhere on the page, or chosen by the buttons.
 * @param {function(): string} model name of the chosen model
 * @param {function(string, string)} ended is called with the id of each new case, and its state
 */
export function takeFiles(model, ended) {
  const take = (files) => attempt(() => send(model(), files, ended))
  for (const id of ['files', 'folder']) {
    const input = byId(id)
    byId(`choose-${id}`).addEventListener('click', () => input.click())
    input.addEventListener('change', () => {
      take([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })))
      input.value = ''
    })
  }
  const over = (event, on) => {
    if (![...event.dataTransfer.types].includes('Files')) return false
    event.preventDefault()
    event.stopPropagation()
    document.body.classList.toggle('dropping', on)
    return true
  }
  // in the capturing phase, before NiiVue sees them
  document.addEventListener('dragover', (event) => over(event, true), true)
  document.addEventListener('dragleave', (event) => event.relatedTarget || over(event, false), true)
  document.addEventListener('drop', (event) => {
    if (!over(event, false)) return
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === 'file')
    const found = dropped.map((item) => walk(item.webkitGetAsEntry()))
    attempt(async () => take((await Promise.all(found)).flat()))
  }, true)
}

/** The files of a dropped file or folder. */
async function walk(entry, folder = '') {
  const name = folder + entry.name
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject))
    return [{ file, name }]
  }
  const reader = entry.createReader()
  const found = []
  for (;;) {  // browsers give a hundred entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
    if (!some.length) break
    found.push(...some)
  }
  return (await Promise.all(found.map((each) => walk(each, `${name}/`)))).flat()
}

/** A folder is one case, such as a DICOM series; files without a folder are a case each. */
export function grouped(files) {
  const groups = new Map()
  for (const each of files) {
    const key = each.name.includes('/') ? each.name.split('/')[0] : each.name
    groups.set(key, [...(groups.get(key) ?? []), each])
  }
  return groups
}

async function send(model, files, ended) {
  if (!model) throw new Error('This server has no model: it only shows results.')
  for (const [name, group] of grouped(files)) {
    const job = new Progress(name)
    const sent = await attempt(() => api.predictFiles(model, group))
    if (sent) job.follow(sent.job).then((state) => ended(sent.case, state))
    else job.remove()
  }
}

/** A line with the progress of a job, and a button to cancel it. */
export class Progress {
  constructor(name) {
    this.name = name
    this.bar = make('progress', { max: 1, 'aria-label': `Segmenting ${name}` })
    this.text = make('span', {}, 'sending')
    this.cancel = button('Cancel', () => attempt(() => api.cancelJob(this.id)), { disabled: true })
    const title = make('span', { class: 'name' }, name)
    this.row = make('li', {}, title, this.bar, this.text, this.cancel)
    byId('jobs').append(this.row)
  }

  /** Show a job until it ends. Returns its last state. */
  async follow(id) {
    this.id = id
    this.cancel.disabled = false
    const last = await attempt(() => api.follow(id, (job) => this.show(job)))
    this.remove()
    const state = last?.state ?? 'failed'
    if (state === 'done') say(`${this.name} is segmented.`)
    else if (last) say(`${this.name}: ${state}. ${last.message}`, state === 'failed')
    return state
  }

  show(job) {
    if (job.state === 'queued') this.text.textContent = `waiting, ${job.position} before it`
    else {
      this.bar.value = job.share
      this.text.textContent = percent(job.share)
    }
  }

  remove() {
    this.row.remove()
  }
}
