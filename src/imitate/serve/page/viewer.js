import * as server from './server.js'
import * as findings from './findings.js'
import { $, make, say } from './document.js'

const BRANCHES = {
  both: 'What reports describe and what they conclude, half each.',
  findings: 'What reports describe (FINDINGS), by features of every level.',
  impression: 'What reports conclude (IMPRESSION), by the highest features.',
}
const turns = {}
const usual = new Set() // what is noted of the built-in sentences, which nobody here wrote
let known, image

const branch = () => document.querySelector('[name=branch]:checked').value

/** Only the latest question of a panel may answer; what goes wrong is told where it was asked. */
async function latest(panel, problem, work, show) {
  const turn = (turns[panel] = (turns[panel] ?? 0) + 1)
  const current = () => turn === turns[panel]
  say(problem, '')
  $(panel).setAttribute('aria-busy', 'true')
  try {
    const answer = await work()
    if (current()) show(answer)
  } catch (error) {
    if (current()) say(problem, error.message)
  } finally {
    if (current()) $(panel).removeAttribute('aria-busy')
  }
}

function open(work, chosen) {
  return latest('view', 'stage-problem', work, async opened => {
    image = opened
    $('view').classList.remove('empty')
    $('figure').hidden = false
    $('picture').src = server.picture(image)
    $('picture').alt = chosen.alt
    for (const button of document.querySelectorAll('#examples button'))
      button.setAttribute('aria-pressed', button.dataset.id === image.id)
    document.querySelector('#drop b').textContent = 'Open another'
    clearHeat()
    if (chosen.phrase !== undefined) $('phrase').value = chosen.phrase
    say('status', `${chosen.alt} is open, ${image.width} by ${image.height} pixels.`)
    askAll()
  })
}

function openFile(file) {
  if (!file) return
  open(
    () => {
      const limit = Math.floor(known.max_bytes / 2 ** 20)
      if (file.size > known.max_bytes) throw new Error(`The file is too large: at most ${limit} MiB are taken.`)
      return server.upload(file)
    },
    { alt: `The radiograph ${file.name}` },
  )
}

function askAll() {
  classify()
  nearest()
  if ($('phrase').value.trim()) heat()
  else clearHeat()
}

function classify() {
  const prompts = findings.prompts()
  if (!image || !Object.keys(prompts).length) return
  latest('rows', 'classes-problem', () => server.ask(image, 'classify', { prompts, branch: branch() }), answer => {
    findings.show(answer.classes)
    if (findings.untouched()) answer.notes.forEach(note => usual.add(note))
    say('classes-problem', answer.classes.filter(each => each.problem).map(findings.problem).join(' '))
    say('classes-note', answer.notes.filter(note => !usual.has(note)).join(' '))
  })
}

function nearest() {
  if (!image || known.index === null) return
  latest('reports', 'nearest-problem', () => server.ask(image, 'reports', { branch: branch() }), answer =>
    $('reports').replaceChildren(...answer.reports.map(report)),
  )
}

function report(found) {
  const sections = ['findings', 'impression'].filter(name => found[name])
  const images = found.images === 1 ? found.image_id : `${found.image_id} and ${found.images - 1} more`
  return make('li', {}, [
    make('div', {}, [
      ...sections.map(name => make('p', { className: 'words' }, [make('b', {}, [name]), found[name]])),
      make('p', { className: 'note' }, [`similarity ${found.similarity.toFixed(2)} · ${images}`]),
    ]),
  ])
}

function heat() {
  if (!image) return say('ask-problem', 'Open a radiograph first.')
  const phrase = $('phrase').value
  $('figure').classList.add('busy')
  latest('map', 'ask-problem', () => server.heatmap(image, { phrase, branch: branch() }), ({ picture, notes }) => {
    clearHeat()
    $('heat').src = URL.createObjectURL(picture)
    $('heat').alt = `Map of where the image fits “${phrase}”`
    $('heat').hidden = $('map').hidden = false
    say('ask-note', notes.join(' '))
    say('status', `The map for “${phrase}” is shown.`)
  }).finally(() => {
    $('figure').classList.remove('busy')
    if (!$('ask-problem').hidden) clearHeat()
  })
}

function clearHeat() {
  URL.revokeObjectURL($('heat').src)
  $('heat').removeAttribute('src')
  $('heat').hidden = $('map').hidden = true
  say('ask-note', '')
}

function fade() {
  $('heat').style.opacity = $('opacity').value / 100
  $('shown').textContent = `${$('opacity').value}%`
}

function explain() {
  $('branch-note').textContent = BRANCHES[branch()]
}

function example(drawn) {
  const button = make('button', { type: 'button' }, [
    make('img', { src: server.picture(drawn), alt: '' }),
    make('span', {}, [drawn.title]),
  ])
  button.dataset.id = drawn.id
  button.setAttribute('aria-pressed', 'false')
  button.onclick = () => open(() => drawn, { alt: `Synthetic example: ${drawn.title}`, phrase: drawn.phrase })
  return make('li', {}, [button])
}

function listen() {
  $('file').onchange = () => (openFile($('file').files[0]), ($('file').value = ''))
  for (const type of ['dragover', 'dragleave', 'drop'])
    document.addEventListener(type, event => {
      event.preventDefault()
      $('drop').classList.toggle('over', type === 'dragover')
      if (type === 'drop') openFile(event.dataTransfer.files[0])
    })
  $('ask').onsubmit = event => (event.preventDefault(), heat())
  $('opacity').oninput = fade
  $('branch').onchange = () => (explain(), image && askAll())
  findings.listen({
    changed: classify,
    where: sentence => (($('phrase').value = sentence), heat()),
  })
}

async function start() {
  explain()
  fade()
  try {
    known = await server.about()
  } catch (error) {
    return say('stage-problem', error.message)
  }
  $('model').textContent = `${known.model} · ${known.backbone}`
  $('index').textContent = known.index === null ? '' : `of ${known.index}`
  const hint = known.index === null ? 'Start the server with --index and a prepared folder to see its reports here.' : 'Open a radiograph to see the reports that it fits best.'
  $('reports').replaceChildren(make('li', { className: 'empty-note' }, [hint]))
  findings.begin(known.prompts)
  $('examples').hidden = false
  document.querySelector('#examples ul').replaceChildren(...known.examples.map(example))
  listen()
}

start()
