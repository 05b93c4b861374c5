// Requests to the server; a response that is an error becomes an Error with the server's own line.
// The token comes in the fragment of the address, which no request contains, and stays in this tab.

import { capital } from './document.js'

const given = new URLSearchParams(location.hash.slice(1)).get('token')
if (given) {
  sessionStorage.setItem('token', given)
  history.replaceState(null, '', location.pathname)
}
const token = given ?? sessionStorage.getItem('token') ?? ''
const proof = token ? { Authorization: `Bearer ${token}` } : {} // else the browser's own, where there is a password
addEventListener('hashchange', () => location.reload())

export const about = () => json('api/about')
export const upload = file => json('api/images', { method: 'POST', body: file })
export const find = image => json(address(image))
export const forget = image => reach(address(image), { method: 'DELETE', keepalive: true }).catch(() => {})
export const picture = async image => URL.createObjectURL(await (await reach(address(image, '/picture'))).blob())

export async function pixels(image) {
  const content = await (await reach(address(image, '/pixels'))).arrayBuffer()
  return image.pixels.bits === 8 ? new Uint8Array(content) : new Uint16Array(content)
}

export async function ask(image, what, question) {
  const answer = await json(address(image, `/${what}`), posted(question))
  return { ...answer, notes: answer.notes.map(sentence) }
}

export async function heatmap(image, question) {
  const answer = await reach(address(image, '/heatmap'), posted(question))
  return { picture: await answer.blob(), notes: JSON.parse(answer.headers.get('X-Notes')).map(sentence) }
}

const address = (image, what = '') => `api/images/${image.id}${what}`
const posted = question => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(question),
})
const json = async (path, options) => (await reach(path, options)).json()
const sentence = line => `${capital(line)}.`

async function reach(path, options) {
  let answer
  try {
    answer = await fetch(path, { ...options, headers: { ...options?.headers, ...proof } })
  } catch {
    throw new Error('The server does not respond: is it still running?')
  }
  if (answer.ok) return answer
  if (answer.status === 401) sessionStorage.removeItem('token') // of a server that has ended
  const told = await answer.json().catch(() => ({}))
  const error = new Error(sentence(told.error ?? `the server responded with ${answer.status}`))
  throw Object.assign(error, { status: answer.status })
}
