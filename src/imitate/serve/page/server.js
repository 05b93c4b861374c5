// Questions to the server; an answer that is none is an Error with the server's own line.
// The token comes in the fragment of the address, which no request contains, and stays in this tab.

const given = new URLSearchParams(location.hash.slice(1)).get('token')
if (given) {
  sessionStorage.setItem('token', given)
  history.replaceState(null, '', location.pathname)
}
const token = given ?? sessionStorage.getItem('token') ?? ''
const proof = token ? { Authorization: `Bearer ${token}` } : {} // else the browser's own, where there is a password
addEventListener('hashchange', () => location.reload())

export const about = () => send('api/about')
export const upload = file => send('api/images', { method: 'POST', body: file })
export const picture = image => `${address(image, 'picture')}?${new URLSearchParams({ token })}`
const address = (image, what) => `api/images/${image.id}/${what}`

export async function ask(image, what, question) {
  const answer = await send(address(image, what), posted(question))
  return { ...answer, notes: answer.notes.map(sentence) }
}

export async function heatmap(image, question) {
  const answer = await reach(address(image, 'heatmap'), posted(question))
  return { picture: await answer.blob(), notes: JSON.parse(answer.headers.get('X-Notes')).map(sentence) }
}

const posted = question => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(question),
})
const send = async (path, options) => (await reach(path, options)).json()

const sentence = line => `${line[0].toUpperCase()}${line.slice(1)}.`

async function reach(path, options) {
  let answer
  try {
    answer = await fetch(path, { ...options, headers: { ...options?.headers, ...proof } })
  } catch {
    throw new Error('The server does not answer: is it still running?')
  }
  if (answer.ok) return answer
  if (answer.status === 401) sessionStorage.removeItem('token') // of a server that has ended
  const told = await answer.json().catch(() => ({}))
  throw new Error(sentence(told.error ?? `the server answered with ${answer.status}`))
}
