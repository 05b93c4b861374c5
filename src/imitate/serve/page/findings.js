// The list of findings: each a name, two sets of sentences, and a bar from 0 to 1.

import { $, make, say } from './document.js'

let builtIn = {}
let heard = { changed() {}, where() {} }

export function listen(listeners) {
  heard = listeners
  $('add').onsubmit = event => (event.preventDefault(), add())
  $('reset').onclick = () => (begin(builtIn), heard.changed())
}

export function begin(prompts) {
  builtIn = prompts
  $('rows').replaceChildren(...Object.entries(prompts).map(([name, pair]) => row(name, pair)))
}

export const untouched = () => JSON.stringify(prompts()) === JSON.stringify(builtIn)

/** What the rows say now, as the server takes it. */
export function prompts() {
  return Object.fromEntries([...$('rows').children].map(row => [row.dataset.name, sentences(row)]))
}

export function show(classes) {
  for (const { name, probability } of classes) {
    const row = [...$('rows').children].find(row => row.dataset.name === name)
    if (!row) continue
    row.querySelector('.value').textContent = probability === null ? '–' : probability.toFixed(2)
    const fill = row.querySelector('.bar i')
    fill.style.width = 0
    if (probability === null) continue
    fill.className = probability >= 0.5 ? 'present' : ''
    fill.style.left = `${Math.min(probability, 0.5) * 100}%`
    fill.style.width = `${Math.abs(probability - 0.5) * 100}%`
  }
}

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

const capital = text => text[0].toUpperCase() + text.slice(1)

function sentences(row) {
  const [positive, negative] = [...row.querySelectorAll('textarea')].map(area => area.value.split('\n').filter(line => line.trim()))
  return { positive, negative }
}

function row(name, pair) {
  const area = (label, lines) =>
    make('label', {}, [label, make('textarea', { value: lines.join('\n'), rows: lines.length, spellcheck: false })])
  const where = make('button', { type: 'button' }, ['Show where'])
  const remove = make('button', { type: 'button' }, ['Remove'])
  const element = make('li', {}, [
    make('details', {}, [
      make('summary', {}, [
        make('span', { className: 'name' }, [capital(name)]),
        make('span', { className: 'bar' }, [make('i', {})]),
        make('span', { className: 'value' }, ['–']),
      ]),
      make('div', { className: 'pair' }, [
        area('Sentences where it is present', pair.positive),
        area('Sentences where it is absent', pair.negative),
        make('div', {}, [where, remove]),
      ]),
    ]),
  ])
  element.dataset.name = name
  element.onchange = () => heard.changed()
  where.onclick = () => heard.where(sentences(element).positive[0] ?? name)
  remove.onclick = () => (element.remove(), $('finding').focus())
  return element
}
