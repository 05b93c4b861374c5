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
