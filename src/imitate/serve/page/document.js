// The few things that are done to the document everywhere. Text is only ever text, never markup.

export const $ = id => document.getElementById(id)

export function make(tag, properties, children = []) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

/** Show a line, or with '' hide it. */
export function say(id, text) {
  $(id).textContent = text
  if (id !== 'status') $(id).hidden = !text
}

export function save(blob, name) {
  const link = make('a', { href: URL.createObjectURL(blob), download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000) // some browsers read it later
}

export const capital = text => text[0].toUpperCase() + text.slice(1)
