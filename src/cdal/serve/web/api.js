/** The server's routes below /v1. Errors carry the sentence that the server gives. */

/** Fetch a route; a reply that is not 200 becomes an error. */
async function call(path, options = {}) {
  let reply
  try {
    reply = await fetch(`v1/${path}`, options)
  } catch {
    throw new Error('The server does not answer. Is cdal still running?')
  }
  if (reply.ok) return reply
  const { detail } = await reply.json().catch(() => ({}))
  const text = typeof detail === 'string' ? detail : `The server answers ${reply.status}.`
  throw Object.assign(new Error(text), { status: reply.status })
}

const json = async (path, options) => (await call(path, options)).json()
const send = (method, path, body) => json(path, {
  method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
})
const at = (id) => `cases/${encodeURIComponent(id)}`

export const models = async () => (await json('models')).models
/** All cases; `fault` is called with each of the server's files that cannot be read. */
export async function cases(fault) {
  const found = await json('cases')
  for (const each of found.faults) fault(each)
  return found.cases
}

export const oneCase = (id) => json(at(id))
export const removeCase = (id) => call(at(id), { method: 'DELETE' })
export const nextCase = async () => (await json('next')).case
export const fileOf = (id, kind) => `v1/${at(id)}/files/${kind}`
export const objects = (id) => json(`${at(id)}/objects`)
export const tiles = (id) => json(`${at(id)}/tiles`)
export const tileOf = (id, level, x, y) => `v1/${at(id)}/tiles/${level}/${x}_${y}.jpg`

/** A layer as bytes, and its type: NIfTI for volumes, PNG for pictures. */
export async function layer(id, kind, query = {}) {
  const words = new URLSearchParams(query)
  return (await call(`${at(id)}/layers/${kind}${words.size ? `?${words}` : ''}`)).arrayBuffer()
}

/** Send `{file, name}` to be segmented: one image, its channels, or the slices of a series. */
export function predictFiles(model, files) {
  const form = new FormData()
  for (const { file, name } of files) form.append('file', file, name)
  form.append('save', 'layers')
  return json(`predict/${encodeURIComponent(model)}?wait=false`, { method: 'POST', body: form })
}

export const predictCase = (id, model) =>
  send('POST', `${at(id)}/predict`, { model, save: ['layers'] })

/** Save a verdict: accept, fix or reject. */
export const review = (id, verdict) => send('PUT', `${at(id)}/review`, { verdict })

/** Save a corrected mask: NIfTI or PNG, on the grid of the image. */
export const correct = (id, blob) => json(`${at(id)}/correction`, {
  method: 'PUT', headers: { 'Content-Type': blob.type }, body: blob,
})

export const training = () => json('training')
export const train = (model, minutes) => send('POST', 'training', { model, minutes })
export const stopTraining = () => json('training', { method: 'DELETE' })
export const adopt = () => json('training/adopt', { method: 'POST' })

export const cancelJob = (id) => json(`jobs/${encodeURIComponent(id)}`, { method: 'DELETE' })

const FINAL = ['done', 'failed', 'cancelled']
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds))

/** Follow a job to its end: `change(job)` is called with each state, the last is returned. */
export async function follow(id, change) {
  const path = `jobs/${encodeURIComponent(id)}`
  const last = await new Promise((resolve) => {
    const events = new EventSource(`v1/${path}/events`)
    const close = (job) => {
      events.close()
      resolve(job)
    }
    events.onmessage = (event) => {
      const job = JSON.parse(event.data)
      change(job)
      if (FINAL.includes(job.state)) close(job)
    }
    events.onerror = () => close(null)
  })
  if (last) return last
  for (;;) {  // the stream was cut: ask instead
    const job = await json(path)
    change(job)
    if (FINAL.includes(job.state)) return job
    await pause(1)
  }
}
