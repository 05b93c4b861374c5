// What is shown, as files: a table of scores, and the image with its map. Each says what made it, and what it is not.

import { $, save } from './document.js'

/** One line for each class of each image, as RFC 4180 has it. */
export function scores(study, { known, branch }) {
  const columns = ['file', 'class', 'probability', 'percentile', 'score', 'threshold', 'above_threshold', 'provenance', 'problem', 'branch', 'model', 'index', 'notice']
  const rows = study.flatMap(image =>
    (image.classes ?? []).map(each => [
      image.name, each.name, each.probability, each.percentile, each.score, each.threshold, each.above_threshold,
      each.provenance, each.problem, branch, known.model, known.index, known.notice,
    ]),
  )
  const text = [columns, ...rows].map(row => row.map(cell).join(',')).join('\r\n')
  save(new Blob([`${text}\r\n`], { type: 'text/csv' }), `${stem(study[0].name)}.scores.csv`)
}

/** An apostrophe keeps a spreadsheet from reading a text as a formula. */
function cell(value) {
  if (value === null || value === undefined) return ''
  if (typeof value !== 'string') return String(value)
  return `"${value.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`
}

/** The whole image in its window, with the map over it and its words below. */
export function map(image, { known, branch, phrase }) {
  const { width, height } = $('canvas')
  const line = Math.max(14, Math.round(width / 36))
  const lines = [image.name, `“${phrase}”, ${branch}, ${known.model}`, 'Where the similarity to the words comes from. It does not show how probable they are.', known.notice]
  const sheet = Object.assign(document.createElement('canvas'), { width, height: height + (lines.length + 1) * line })
  const pen = sheet.getContext('2d')
  pen.fillStyle = '#000'
  pen.fillRect(0, 0, sheet.width, sheet.height)
  pen.drawImage($('canvas'), 0, 0)
  pen.globalAlpha = $('opacity').value / 100
  pen.drawImage($('heat'), 0, 0, width, height)
  pen.globalAlpha = 1
  pen.fillStyle = '#fff'
  pen.font = `${Math.round(0.75 * line)}px sans-serif`
  lines.forEach((text, i) => pen.fillText(text, line / 2, height + (i + 1.2) * line, width - line))
  sheet.toBlob(blob => save(blob, `${stem(image.name)}.map.png`), 'image/png')
}

const stem = name => name.replace(/\.(dcm|dicom|png|jpe?g)$/i, '').replace(/[^\p{L}\p{N}._ ()-]/gu, '_')
