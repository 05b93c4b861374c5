// The list of findings: a name, two sets of sentences, and for each image of the study one mark on a scale.

import { $, capital, make, say } from './document.js'

const KINDS = ['probability', 'percentile', 'score'] // of what a class has, the first is shown
let builtIn = {}
let heard = { changed() {}, where() {} }

export function listen(listeners) {
  heard = listeners
  $('add').onsubmit = event => (event.preventDefault(), add())
  $('reset-rows').onclick = () => (begin(builtIn), heard.changed())
}

export function begin(prompts) {
  builtIn = prompts
  fill(prompts)
}

export function fill(prompts) {
  $('rows').replaceChildren(...Object.entries(prompts).map(([name, pair]) => row(name, pair)))
}

export const untouched = () => JSON.stringify(prompts()) === JSON.stringify(builtIn)

const rows = () => [...$('rows').children]

/** What the rows say now, as the server takes it. */
export const prompts = () => Object.fromEntries(rows().map(row => [row.dataset.name, sentences(row)]))

/** No image, no scores. */
export function clear() {
  for (const row of rows()) {
    row.querySelector('.value').textContent = '–'
    row.querySelector('.scale').replaceChildren()
    row.querySelector('.more').textContent = row.querySelector('.decision').textContent = ''
    for (const cosine of row.querySelectorAll('output')) cosine.textContent = ''
  }
  $('kinds').textContent = ''
}

/** The scores of one image, and with hollow marks those of the others of its study; the highest first. */
export function show(classes, others = []) {
  const focus = document.activeElement
  const found = rows().map(row => [row, classes.find(({ name }) => name === row.dataset.name)])
  for (const [row, score] of found) if (score) showOne(row, score, others.map(each => each.find(({ name }) => name === score.name)))
  const rank = score => (score && kindOf(score) ? [KINDS.indexOf(kindOf(score)), -valueOf(score)] : [KINDS.length, 0])
  const before = (a, b) => a[0] - b[0] || a[1] - b[1]
  $('rows').append(...found.sort((a, b) => before(rank(a[1]), rank(b[1]))).map(([row]) => row))
  if (document.activeElement !== focus) focus.focus({ preventScroll: true }) // to move an element takes its focus
  const kinds = KINDS.filter(kind => classes.some(each => kindOf(each) === kind))
  $('kinds').textContent = kinds.join(' or ')
  return kinds
}

export const kindOf = score => KINDS.find(kind => typeof score[kind] === 'number') ?? ''

/** From 0 to 1. */
function valueOf(score) {
  const kind = kindOf(score)
  return kind === 'percentile' ? score.percentile / 100 : (score[kind] ?? -1)
}

function written(score) {
  const kind = kindOf(score)
  if (!kind) return '–'
  if (kind === 'score') return score.score.toFixed(2)
  if (kind === 'percentile') return ordinal(Math.min(Math.max(Math.round(score.percentile), 1), 99))
  return score.probability > 0 && score.probability < 0.005 ? '<1%' : `${Math.round(100 * score.probability)}%`
}

const ordinal = number => `${number}${(number % 100 < 11 || number % 100 > 13) && ['', 'st', 'nd', 'rd'][number % 10] || 'th'}`

function showOne(row, score, others) {
  row.querySelector('.value').textContent = written(score)
  row.querySelector('.decision').textContent = typeof score.above_threshold === 'boolean' ? `${score.above_threshold ? 'above' : 'below'} its threshold` : ''
  row.querySelector('.more').textContent = score.provenance ?? ''
  const mark = (className, at, length = 'left') => {
    const element = make('i', { className })
    element.style[length] = `${100 * at}%`
    return element
  }
  const own = kindOf(score)
  row.querySelector('.scale').replaceChildren(
    ...(own === 'probability' ? [mark(`part${score.above_threshold ? ' above' : ''}`, score.probability, 'width')] : []),
    ...(typeof score.threshold === 'number' ? [mark('threshold', score.threshold)] : []),
    ...others.filter(other => other && own && kindOf(other) === own).map(other => mark('other', valueOf(other))),
    ...(own && own !== 'probability' ? [mark('own', valueOf(score))] : []),
  )
  const cosines = { positive: score.positive, negative: score.negative }
  for (const side of row.querySelectorAll('.side')) {
    const known = new Map(cosines[side.dataset.side].map(({ text, cosine }) => [text, cosine]))
    for (const line of side.querySelectorAll('li')) {
      const text = line.querySelector('textarea').value.trim()
      line.querySelector('output').textContent = !text ? '' : known.has(text) ? signed(known.get(text)) : 'unknown'
    }
  }
}

const signed = cosine => `${cosine < 0 ? '−' : '+'}${Math.abs(cosine).toFixed(2)}`

/** A sentence that says of which finding it is. */
export const problem = ({ name, problem: line }) => `${capital(line.startsWith(`prompts of ${name}:`) ? line : `${name}: ${line}`)}.`

function add() {
  const phrase = $('finding').value.trim().replace(/\.$/, '')
  if (!phrase) return say('classes-problem', 'Write what to look for, such as “left pleural effusion”.')
  const name = phrase.toLowerCase()
  if (Object.hasOwn(prompts(), name)) return say('classes-problem', `${capital(name)} is in the list already.`)
  $('rows').append(row(name, { positive: [`${capital(phrase)}.`], negative: [`No ${phrase}.`] }))
  $('finding').value = ''
  say('classes-problem', '')
  heard.changed()
}

const sentences = row =>
  Object.fromEntries(
    [...row.querySelectorAll('.side')].map(side => [
      side.dataset.side,
      [...side.querySelectorAll('textarea')].map(area => area.value.trim()).filter(Boolean),
    ]),
  )

function row(name, pair) {
  const where = make('button', { type: 'button', className: 'where' }, ['Show where'])
  const remove = make('button', { type: 'button' }, ['Remove'])
  const element = make('li', {}, [
    make('details', {}, [
      make('summary', {}, [
        make('span', { className: 'name' }, [capital(name)]),
        make('span', { className: 'decision' }),
        make('span', { className: 'scale' }),
        make('span', { className: 'value' }, ['–']),
      ]),
      make('div', { className: 'pair' }, [
        make('p', { className: 'more' }),
        side('positive', 'Sentences where it is present', pair.positive),
        side('negative', 'Sentences where it is absent', pair.negative),
        make('div', { className: 'line' }, [where, remove]),
      ]),
    ]),
  ])
  element.dataset.name = name
  where.onclick = () => heard.where(sentences(element).positive[0] ?? name)
  remove.onclick = () => (element.remove(), $('finding').focus())
  return element
}

/** The sentences of a side, each with its cosine, and an empty line for another. */
function side(which, title, lines) {
  const list = make('ul', {}, [...lines, ''].map(text => line(title, text)))
  const element = make('section', { className: 'side' }, [make('h3', {}, [title]), list])
  element.dataset.side = which
  element.onchange = () => {
    const areas = [...list.querySelectorAll('textarea')]
    for (const area of areas.slice(0, -1)) if (!area.value.trim()) area.closest('li').remove()
    if (areas.at(-1).value.trim()) list.append(line(title, ''))
    heard.changed()
  }
  return element
}

function line(title, value) {
  const area = make('textarea', { value, rows: 1, maxLength: 500, spellcheck: false, placeholder: value ? '' : 'Another sentence' })
  area.setAttribute('aria-label', title)
  area.onkeydown = event => {
    if (event.key !== 'Enter') return
    event.preventDefault()
    area.dispatchEvent(new Event('change', { bubbles: true }))
  }
  return make('li', {}, [area, make('output', {})])
}
