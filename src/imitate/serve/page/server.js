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
  const response = await json(address(image, `/${what}`), posted(question))
  return { ...response, notes: response.notes.map(sentence) }
}

export async function heatmap(image, question) {
  const response = await reach(address(image, '/heatmap'), posted(question))
  return { picture: await response.blob(), notes: JSON.parse(response.headers.get('X-Notes')).map(sentence) }
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
  let response
  try {
    response = await fetch(path, { ...options, headers: { ...options?.headers, ...proof } })
  } catch {
    throw new Error('The server does not respond: is it still running?')
  }
  if (response.ok) return response
  if (response.status === 401) sessionStorage.removeItem('token') // of a server that has ended
  const body = await response.json().catch(() => ({}))
  const error = new Error(sentence(body.error ?? `the server responded with ${response.status}`))
  throw Object.assign(error, { status: response.status })
}
