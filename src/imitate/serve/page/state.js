// What outlives a refresh, in this tab alone: which images, how they are shown, and what was asked of them.

const KEY = 'viewer'

export const load = () => JSON.parse(sessionStorage.getItem(KEY) ?? 'null')

/** Written when the page is left, or hidden, after which a telephone may end it. */
export function keep(current) {
  const write = () => sessionStorage.setItem(KEY, JSON.stringify(current()))
  addEventListener('pagehide', write)
  document.addEventListener('visibilitychange', () => document.hidden && write())
}
