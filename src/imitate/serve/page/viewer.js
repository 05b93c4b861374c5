import * as server from './server.js'
import * as findings from './findings.js'
import * as screen from './screen.js'
import * as study from './study.js'
import * as download from './download.js'
import * as state from './state.js'
import { describe } from './about.js'
import { $, make, say } from './document.js'

const BRANCHES = {
  both: 'Findings and Impression, weighted equally.',
  findings: 'The Findings section of reports.',
  impression: 'The Impression section of reports.',
}
const turns = {}
const usual = new Set() // what is noted of the built-in sentences, which nobody here wrote
let known

const branch = () => document.querySelector('[name=branch]:checked').value
const nothing = text => [make('li', { className: 'empty-note' }, [text])]

/** Only the latest question of a panel may show its result; what goes wrong is said where it was asked. */
async function latest(panel, problem, work, show, clear) {
  const turn = (turns[panel] = (turns[panel] ?? 0) + 1)
  const current = () => turn === turns[panel]
  say(problem, '')
  $(panel).setAttribute('aria-busy', 'true')
  try {
    const result = await work()
    if (current()) show(result)
  } catch (error) {
    if (current()) (say(problem, error.message), clear?.())
  } finally {
    if (current()) $(panel).removeAttribute('aria-busy')
  }
}

/** Nothing of an image stays in sight, nor does anything on its way arrive. */
function leave() {
  for (const panel of ['rows', 'reports', 'map']) {
    turns[panel] = (turns[panel] ?? 0) + 1
    $(panel).removeAttribute('aria-busy')
  }
  for (const problem of ['classes-problem', 'classes-note', 'nearest-problem', 'ask-problem']) say(problem, '')
  findings.clear()
  clearHeat()
  const hint = known.index === null ? 'Start the server with --index and a prepared folder to see its reports here.' : 'Open a radiograph to see the reports that match it best.'
  $('reports').replaceChildren(...nothing(hint))
  $('save-scores').disabled = true
}

function entered(image) {
  say('status', `${image.name} is open, ${image.width} by ${image.height} pixels.`)
  askAll()
}

function askAll() {
  classify()
  nearest()
  if ($('phrase').value.trim()) heat()
  else clearHeat()
}

/** The image that is shown first; the others of its study follow. */
async function classify() {
  const prompts = findings.prompts()
  const image = study.current()
  if (!image || !Object.keys(prompts).length) return
  for (const each of study.images()) delete each.classes
  const question = { prompts, branch: branch() }
  await latest('rows', 'classes-problem', () => server.ask(image, 'classify', question), result => {
    image.classes = result.classes
    if (findings.untouched()) result.notes.forEach(note => usual.add(note))
    say('classes-problem', result.classes.filter(each => each.problem).map(findings.problem).join(' '))
    say('classes-note', result.notes.filter(note => !usual.has(note)).join(' '))
    showClasses(image)
    classifyOthers(image, question)
  }, findings.clear)
}

async function classifyOthers(image, question) {
  const turn = turns.rows
  for (const other of study.images()) {
    if (other === image) continue
    const result = await server.ask(other, 'classify', question).catch(() => null)
    if (turn !== turns.rows) return
    if (result) other.classes = result.classes
    showClasses(image)
  }
}

function showClasses(image) {
  const others = study.images().filter(each => each !== image && each.classes)
  const kinds = findings.show(image.classes, others.map(each => each.classes))
  $('kind-note').textContent = kinds.map(explained).join(' ')
  $('save-scores').disabled = false
}

const explained = kind =>
  ({
    probability: 'Probabilities are calibrated; open a finding to see on which images.',
    percentile: `A percentile is the percentage of ${known.compared} images of ${known.index} with a lower score. It is not a probability.`,
    score: 'A score ranks images and is not a probability: this model is not calibrated.',
  })[kind]

function nearest() {
  const image = study.current()
  if (!image || known.index === null) return
  const list = reports => $('reports').replaceChildren(...reports.map(report))
  latest('reports', 'nearest-problem', () => server.ask(image, 'reports', { branch: branch() }), result => list(result.reports), () => list([]))
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

async function heat() {
  if (!known.maps) return
  const image = study.current()
  if (!image) return say('ask-problem', 'Open a radiograph first.')
  const phrase = $('phrase').value
  clearHeat() // that of other words
  $('view').classList.add('busy')
  await latest('map', 'ask-problem', () => server.heatmap(image, { phrase, branch: branch() }), ({ picture, notes }) => {
    $('heat').src = URL.createObjectURL(picture)
    $('heat').alt = `Map of where the image matches “${phrase}”`
    $('heat').dataset.phrase = phrase
    $('map').hidden = $('hide').hidden = false
    screen.toggleMap(true)
    say('ask-note', notes.join(' '))
    say('status', `The map for “${phrase}” is shown.`)
  })
  if (!$('map').hasAttribute('aria-busy')) $('view').classList.remove('busy')
}

function clearHeat() {
  URL.revokeObjectURL($('heat').src)
  $('heat').removeAttribute('src')
  $('heat').hidden = $('map').hidden = $('hide').hidden = true
  $('view').classList.remove('busy')
  say('ask-note', '')
}

function fade() {
  $('heat').style.opacity = $('opacity').value / 100
  $('shown').textContent = `${$('opacity').value}%`
}

const explain = () => ($('branch-note').textContent = BRANCHES[branch()])

async function example(given) {
  const button = make('button', { type: 'button' }, [
    make('img', { src: await server.picture(given), alt: '' }),
    make('span', {}, [given.title]),
  ])
  button.dataset.id = given.id
  button.setAttribute('aria-pressed', 'false')
  button.onclick = () => {
    $('phrase').value = given.phrase
    $('phrase').dataset.example = 'true' // not the user's words
    study.open([{ ...given, name: `Synthetic example: ${given.title}`, example: true }])
  }
  return make('li', {}, [button])
}

function openFiles(files, also) {
  if (!files.length) return
  if ($('phrase').dataset.example) $('phrase').value = ''
  delete $('phrase').dataset.example
  $('examples').open = false // which leaves the image their room
  study.openFiles([...files], { also, most: known.max_bytes })
}

function listen() {
  let also = false
  const choose = more => () => ((also = more), $('file').click())
  $('open').onclick = $('choose').onclick = choose(false)
  $('more').onclick = choose(true)
  $('file').onchange = () => (openFiles($('file').files, also), ($('file').value = ''), (also = false))
  for (const type of ['dragover', 'dragleave', 'drop'])
    document.addEventListener(type, event => {
      event.preventDefault()
      $('view').classList.toggle('over', type === 'dragover')
      if (type === 'drop') openFiles(event.dataTransfer.files)
    })
  $('ask').onsubmit = event => (event.preventDefault(), heat())
  $('phrase').oninput = () => delete $('phrase').dataset.example
  $('opacity').oninput = fade
  $('branch').onchange = () => (explain(), askAll())
  $('save-scores').onclick = () => download.scores(study.images(), { known, branch: branch() })
  $('save-map').onclick = () => download.map(study.current(), { known, branch: branch(), phrase: $('heat').dataset.phrase })
  findings.listen({ changed: classify, where: sentence => (($('phrase').value = sentence), heat()) })
  study.listen({ leave, entered })
  screen.listen()
  state.keep(() => ({
    ...study.state(),
    branch: branch(),
    phrase: $('phrase').value,
    example: $('phrase').dataset.example,
    opacity: $('opacity').value,
    prompts: findings.untouched() ? null : findings.prompts(),
  }))
}

async function restore(saved) {
  document.querySelector(`[name=branch][value=${saved.branch}]`).checked = true
  $('phrase').value = saved.phrase
  if (saved.example) $('phrase').dataset.example = saved.example
  $('opacity').value = saved.opacity
  if (saved.prompts) findings.fill(saved.prompts)
  await study.restore(saved)
}

async function start() {
  try {
    known = await server.about()
  } catch (error) {
    return say('stage-problem', error.message)
  }
  $('model').textContent = `${known.model} · ${known.backbone}`
  document.body.classList.toggle('no-maps', !known.maps)
  $('index').textContent = known.index === null ? '' : `of ${known.index}`
  document.querySelector(`[name=branch][value=${known.branch}]`).checked = true
  describe(known)
  findings.begin(known.prompts)
  listen()
  leave()
  const saved = state.load()
  if (saved) restore(saved).then(() => (explain(), fade()))
  explain()
  fade()
  $('examples').hidden = false
  document.querySelector('#examples ul').replaceChildren(...(await Promise.all(known.examples.map(example))))
  study.mark()
}

start()
