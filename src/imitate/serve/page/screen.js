// The image on the screen: window and level, zoom and pan, by pointer, wheel, touch and keys.
// Gray values come with all their bits; each image keeps its own view: {scale, x, y, low, high, invert}.

import { $ } from './document.js'

const STEP = 1.25 // of zoom
const KEYS = {
  '+': () => zoom(STEP), '=': () => zoom(STEP), '-': () => zoom(1 / STEP), 0: fit, 1: actual,
  i: invert, r: reset, m: () => toggleMap(),
}
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
const pointers = new Map() // those that press
let pinch = null // how two fingers began
let shown = null // the image
let frame = null // its pixels in gray of 8 bits, as the canvas takes them
let waiting = false

/** Show an image, whose `gray` values are here, or with null nothing. */
export function display(image) {
  shown = image
  pointers.clear()
  pinch = null
  $('canvas').hidden = $('readout').hidden = !image
  $('view').classList.toggle('empty', !image)
  for (const control of document.querySelectorAll('#tools button, [name=mode]')) control.disabled = !image
  if (!image) return Object.assign($('canvas'), { width: 0, height: 0 })
  const { width, height } = image.pixels
  Object.assign($('canvas'), { width, height })
  frame = new ImageData(width, height)
  image.view ??= begin(image)
  paint()
  place()
}

const begin = ({ pixels: { low, high } }) => ({ scale: 1, x: 0, y: 0, low, high, invert: false })

/** The gray of every value, then of every pixel; at most once for each picture of the screen. */
function paint() {
  const { low, high, invert } = shown.view
  const table = new Uint32Array(2 ** shown.pixels.bits)
  for (let value = 0; value < table.length; value++) {
    const part = Math.min(Math.max((value - low) / (high - low), 0), 1)
    table[value] = 0xff000000 + 0x010101 * Math.round(255 * (invert ? 1 - part : part))
  }
  const { gray } = shown
  const painted = new Uint32Array(frame.data.buffer)
  for (let i = 0; i < gray.length; i++) painted[i] = table[gray[i]]
  $('canvas').getContext('2d').putImageData(frame, 0, 0)
}

function repaint() {
  place()
  if (waiting) return
  waiting = true
  requestAnimationFrame(() => {
    waiting = false
    if (shown) paint()
  })
}

/** Width and height of the view, and of the image in it where it fits. */
function sizes() {
  const { clientWidth: wide, clientHeight: high } = $('view')
  const { width, height } = shown.pixels
  const shrink = Math.min(wide / width, high / height)
  return { wide, high, across: width * shrink, down: height * shrink }
}

/** The scale at which a pixel of the image is one of the screen. */
const whole = () => shown.pixels.width / sizes().across / devicePixelRatio

function place() {
  if (!shown || !$('view').clientWidth) return
  const { view } = shown
  const { wide, high, across, down } = sizes()
  const within = (at, size, room) => {
    const most = Math.max(view.scale * size - room, 0) / room / 2
    return Math.min(Math.max(at, -most), most)
  }
  view.x = within(view.x, across, wide)
  view.y = within(view.y, down, high)
  $('layer').style.transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.scale})`
  $('view').classList.toggle('zoomed', view.scale > 1)
  $('invert').setAttribute('aria-pressed', view.invert)
  const level = Math.round((view.low + view.high) / 2)
  $('readout').textContent = `W ${Math.round(view.high - view.low)}  L ${level}  ${Math.round((100 * view.scale) / whole())}%`
}

/** By a factor, so that the place at (x, y) from the middle of the view stays where it is. */
const zoom = (factor, x = 0, y = 0) => enlarge(shown.view, factor, { x, y }, { x, y })

/** From an earlier view, whose place `from` gets to `to`. */
function enlarge(before, factor, from, to) {
  const scale = Math.min(Math.max(before.scale * factor, Math.min(1, whole())), Math.max(8, 8 * whole()))
  const { wide, high } = sizes()
  const moved = (from, to, at, room) => to / room - ((from / room - at) * scale) / before.scale
  const [x, y] = [moved(from.x, to.x, before.x, wide), moved(from.y, to.y, before.y, high)]
  Object.assign(shown.view, { scale, x, y })
  place()
}

function move(right, down) {
  const { wide, high } = sizes()
  shown.view.x += right / wide
  shown.view.y += down / high
  place()
}

/** Wider and brighter, in hundredths of the range to begin with. */
function changeWindow(wider, brighter) {
  const { view, pixels } = shown
  const unit = (pixels.high - pixels.low) / 100
  const level = (view.low + view.high) / 2 - brighter * unit
  const width = Math.max(view.high - view.low + wider * unit, Math.max(1, unit))
  Object.assign(view, { low: level - width / 2, high: level + width / 2 })
  repaint()
}

function fit() {
  Object.assign(shown.view, { scale: 1, x: 0, y: 0 })
  place()
}

function actual(x = 0, y = 0) {
  zoom(whole() / shown.view.scale, x, y)
}

function invert() {
  shown.view.invert = !shown.view.invert
  repaint()
}

function reset() {
  shown.view = begin(shown)
  repaint()
}

export function toggleMap(on = $('heat').hidden) {
  $('heat').hidden = !on || !$('heat').src
  $('hide').setAttribute('aria-pressed', on)
}

const windowing = () => $('mode-window').checked

/** From the middle of the view. */
function position(event) {
  const box = $('view').getBoundingClientRect()
  return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 }
}

/** Of two fingers: where their middle is, and how far they are apart. */
function pair() {
  const [a, b] = pointers.values()
  return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, apart: Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1) }
}

function drag(event) {
  const last = pointers.get(event.pointerId)
  if (!shown || !last) return
  const now = { ...position(event), window: last.window }
  const [right, down] = [now.x - last.x, now.y - last.y]
  pointers.set(event.pointerId, now)
  if (pinch) enlarge(pinch.view, pair().apart / pinch.apart, pinch.middle, pair().middle)
  else if (now.window) changeWindow(right / 3, -down / 3)
  else move(right, down)
}

/** Another finger, or one less. */
const grip = () => (pinch = pointers.size === 2 ? { ...pair(), view: { ...shown.view } } : null)

function press(event) {
  const writing = event.target.closest('textarea, input:not([type=checkbox], [type=radio], [type=range])')
  if (!shown || writing || event.ctrlKey || event.metaKey || event.altKey) return
  const arrow = event.target === $('view') && ARROWS[event.key]
  const key = $('use-keys').checked && KEYS[event.key]
  if (arrow && event.shiftKey) changeWindow(5 * arrow[0], -5 * arrow[1])
  else if (arrow) move(-40 * arrow[0], -40 * arrow[1])
  else if (key) key()
  else return
  event.preventDefault()
}

export function listen() {
  const area = $('view')
  area.onpointerdown = event => {
    if (!shown || event.button === 1) return
    area.setPointerCapture(event.pointerId)
    pointers.set(event.pointerId, { ...position(event), window: event.button === 2 || windowing() })
    grip()
  }
  area.onpointermove = drag
  area.onpointerup = area.onpointercancel = event => (pointers.delete(event.pointerId), grip())
  area.oncontextmenu = event => shown && event.preventDefault() // the right button changes window and level
  area.ondblclick = event => {
    if (!shown) return
    if (shown.view.scale > 1) return fit()
    const { x, y } = position(event)
    shown.pixels.width / sizes().across > 1.5 ? actual(x, y) : zoom(2, x, y)
  }
  area.addEventListener(
    'wheel',
    event => {
      if (!shown) return
      event.preventDefault()
      const { x, y } = position(event)
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), x, y)
    },
    { passive: false },
  )
  new ResizeObserver(place).observe(area)
  for (const radio of document.querySelectorAll('[name=mode]'))
    radio.onchange = () => area.classList.toggle('windowing', windowing())
  const buttons = { in: () => zoom(STEP), out: () => zoom(1 / STEP), fit, actual: () => actual(), invert, reset, hide: () => toggleMap() }
  for (const [id, act] of Object.entries(buttons)) $(id).onclick = act
  document.addEventListener('keydown', press)
}
