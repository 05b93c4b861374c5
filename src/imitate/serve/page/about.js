// What is known of the model, below its results: calibration, thresholds, groups of patients.

import { $, capital, make } from './document.js'

export function describe(known) {
  const { calibration, groups } = known
  const facts = {
    Model: known.model,
    Network: known.backbone,
    Index: known.index ?? 'none: start the server with --index and a prepared folder',
    Probabilities: calibration ? `calibrated by ${calibration.provenance}, branch ${calibration.branch}` : 'none: this model is not calibrated (imitate calibrate)',
    'Groups of patients': groups ? `${groups.flagged.length} of ${groups.tested} differences exceed chance (${groups.measured}). ${groups.notes.join(' ')}` : 'not audited (imitate audit)',
    Thresholds: calibration && Object.keys(calibration.operating).length ? 'measured on test images, in brackets 95% intervals' : 'none',
  }
  $('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make('dt', {}, [name]), make('dd', {}, [value])]))
  if (groups) found(groups)
  if (calibration) thresholds(calibration.operating)
}

function thresholds(operating) {
  const names = ['sensitivity', 'specificity', 'ppv', 'npv']
  const rows = Object.entries(operating).map(([name, point]) => [capital(name), aim(point), ...names.map(each => interval(point.achieved[each]))])
  if (rows.length) $('facts').after(table(['Finding', 'Chosen for', 'Sensitivity', 'Specificity', 'PPV', 'NPV'], rows))
}

function found({ flagged }) {
  const rows = flagged.map(({ name, metric, by, said }) => [capital(name), by, metric, said])
  if (rows.length) $('facts').after(table(['Finding', 'Groups by', 'Differ in', 'Worst and best group'], rows))
}

const aim = ({ aim, at }) =>
  aim === 'youden' ? 'largest sensitivity + specificity' : aim === 'cost' ? `a missed one costs ${at} false alarms` : `${aim} ${at}`

const two = number => number.toFixed(2)
const interval = found => {
  if (typeof found?.value !== 'number') return '–'
  return typeof found.low === 'number' ? `${two(found.value)} [${two(found.low)}, ${two(found.high)}]` : two(found.value)
}

function table(titles, rows) {
  const head = make('tr', {}, titles.map(title => make('th', { scope: 'col' }, [title])))
  const body = rows.map(([first, ...others]) => make('tr', {}, [make('th', { scope: 'row' }, [first]), ...others.map(text => make('td', {}, [text]))]))
  const box = make('div', { className: 'wide-table', tabIndex: 0 }, [make('table', {}, [make('thead', {}, [head]), make('tbody', {}, body)])])
  box.setAttribute('role', 'region')
  box.setAttribute('aria-label', titles.slice(0, 3).join(', '))
  return box
}
