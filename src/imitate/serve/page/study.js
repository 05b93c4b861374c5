// The images of a study: opened together or one after the other, one of them shown, each with its file's name.

import * as server from './server.js'
import * as screen from './screen.js'
import { $, make, say } from './document.js'

const MOST = 16 // images of a study
const TITLE = document.title
let all = []
let shown = null
let opening = 0
let heard = { leave() {}, entered() {} }

export const images = () => all
export const current = () => shown

export function listen(listeners) {
  heard = listeners
  $('close').onclick = () => (close(shown ? [shown] : all), $('open').focus())
  document.addEventListener('keydown', event => {
    const step = { '[': -1, ']': 1 }[event.key]
    const writing = event.target.closest('textarea, input:not([type=checkbox], [type=radio], [type=range])')
    if (!step || writing || !$('use-keys').checked || !all.length) return
    show(all[(all.indexOf(shown) + step + all.length) % all.length])
  })
}

/** These in place of those before. */
export function open(opened) {
  forget(all)
  all = opened
  return show(all[0])
}

/** Files in place of what is open, or beside it (`also`). What was shown goes at once, whatever becomes of the files. */
export async function openFiles(files, { also = false, most }) {
  const turn = ++opening
  if (!also) forget(all.splice(0))
  await show(null)
  $('view').classList.add('busy')
  const problems = all.length + files.length > MOST ? [`At most ${MOST} images are kept open.`] : []
  let first
  for (const file of files.slice(0, MOST - all.length)) {
    try {
      if (file.size > most) throw new Error(`The file is too large: at most ${Math.floor(most / 2 ** 20)} MiB are allowed.`)
      say('status', `Reading ${file.name}.`)
      const image = { ...(await server.upload(file)), name: file.name }
      if (turn !== opening) return server.forget(image)
      all.push(image)
      first ??= image
      draw()
    } catch (error) {
      if (turn !== opening) return
      problems.push(`${file.name}: ${error.message}`)
    }
  }
  $('view').classList.remove('busy')
  if (first) await show(first)
  say('stage-problem', problems.join(' '))
}

function close(closed) {
  opening++
  forget(closed)
  all = all.filter(image => !closed.includes(image))
  show(all[0] ?? null)
}

function forget(closed) {
  for (const image of closed) {
    image.picture?.then(URL.revokeObjectURL, () => {})
    if (!image.example) server.forget(image)
  }
}

/** One of them, or with null none. */
async function show(image) {
  shown = image
  heard.leave()
  screen.display(null)
  say('stage-problem', '')
  draw()
  if (!image) return
  $('view').classList.add('busy')
  try {
    image.gray ??= await server.pixels(image)
    if (shown !== image) return
    $('view').classList.remove('busy')
    screen.display(image)
    heard.entered(image)
  } catch (error) {
    if (shown !== image) return
    $('view').classList.remove('busy')
    if (error.status === 404) all = all.filter(each => each !== image)
    shown = null
    draw()
    say('stage-problem', `${image.name}: ${error.message}`)
  }
}

function draw() {
  const name = shown?.name ?? 'No image'
  document.title = shown ? `${name} – ${TITLE}` : TITLE
  $('name').textContent = name
  $('size').textContent = shown ? `${shown.width} × ${shown.height}` : ''
  $('canvas').setAttribute('aria-label', `The radiograph ${name}`)
  $('more').hidden = $('close').hidden = !all.length
  $('strip').hidden = all.length < 2 && !(all.length && !shown)
  $('strip').replaceChildren(...all.map(thumbnail))
  mark()
}

/** Which of the examples is open. */
export function mark() {
  for (const button of document.querySelectorAll('#examples button')) button.setAttribute('aria-pressed', button.dataset.id === shown?.id)
}

function thumbnail(image) {
  const picture = make('img', { alt: '' })
  image.picture ??= server.picture(image)
  image.picture.then(address => (picture.src = address)).catch(() => {})
  const button = make('button', { type: 'button', title: image.name }, [picture, make('span', {}, [image.name])])
  button.setAttribute('aria-pressed', image === shown)
  button.onclick = () => show(image).then(() => $('strip').querySelector('[aria-pressed=true]')?.focus())
  return make('li', {}, [button])
}

export const state = () => ({
  images: all.map(({ id, name, width, height, pixels, example, view }) => ({ id, name, width, height, pixels, example, view })),
  shown: all.indexOf(shown),
})

/** Those that the server still has. */
export async function restore({ images: saved, shown: place }) {
  const found = await Promise.all(saved.map(image => server.find(image).then(() => image, () => null)))
  const lost = saved.filter(image => !found.includes(image)).map(({ name }) => name)
  all = found.filter(Boolean)
  await show(found[place] ?? null)
  if (lost.length) say('stage-problem', `No longer on the server, open it again: ${lost.join(', ')}.`)
}
