// The REST API and the session. Tokens live in sessionStorage: another tab may be another person.
import { t } from './texts.js'

const KEY = 'collab.session'
const EARLY_MS = 30_000 // renew this long before the access token ends

/** What went wrong, as a sentence for the person. `final`: asking again would not help. */
export class Problem extends Error {
  constructor (sentence, { status = 0, slug = '' } = {}) {
    super(sentence)
    this.status = status
    this.slug = slug
    this.final = status >= 400 && status < 500 && status !== 429
  }
}

const sentenceOf = (status, problem) => {
  const slug = (problem.type ?? '').split(':').at(-1)
  const fields = (problem.errors ?? []).map(({ detail }) => detail).join(' ')
  const told = problem.detail ?? problem.title ?? t('unexpected', { status })
  return new Problem([t(`problem:${slug}`, {}, told), fields].filter(Boolean).join(' '), { status, slug })
}

const send = async (method, path, { body, token } = {}) => {
  let answer
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers: { ...(body && { 'Content-Type': 'application/json' }), ...(token && { Authorization: `Bearer ${token}` }) },
      body: body && JSON.stringify(body)
    })
  } catch {
    throw new Problem(t('network'))
  }
  const json = await answer.json().catch(() => null)
  if (!answer.ok) throw sentenceOf(answer.status, json ?? {})
  return json
}

export class Session extends EventTarget {
  #renewing = null

  constructor () {
    super()
    this.account = JSON.parse(sessionStorage.getItem(KEY) ?? 'null') // {name, access, refresh, endsAt}
  }

  async signUp (email, password, name) {
    await send('POST', '/auth/register', { body: { email, password, name } })
    await this.signIn(email, password)
  }

  async signIn (email, password) {
    this.#keep(await send('POST', '/auth/login', { body: { email, password } }))
    const { name } = await this.call('GET', '/auth/me').catch(() => ({ name: email.split('@')[0] }))
    this.#store({ ...this.account, name })
  }

  async signOut () {
    const token = this.account?.access
    this.#store(null)
    if (token) await send('POST', '/auth/logout', { token }).catch(() => {})
  }

  /** One call on behalf of whoever is signed in; raises `Problem`. */
  async call (method, path, body) {
    const token = await this.token()
    try {
      return await send(method, path, { body, token })
    } catch (problem) {
      if (problem.status !== 401) throw problem
      return send(method, path, { body, token: await this.#renew() }) // revoked or restarted: once more
    }
  }

  documents (cursor) { return this.call('GET', `/documents?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`) }
  document (id) { return this.call('GET', `/documents/${encodeURIComponent(id)}`) }
  newDocument (title) { return this.call('POST', '/documents', { title }) }

  /** Good for one socket: a new one for every attempt to connect. */
  async ticket (id) { return (await this.call('POST', `/documents/${encodeURIComponent(id)}/ticket`)).ticket }

  async token () {
    if (this.account === null) throw new Problem(t('sessionEnded'), { status: 401 })
    return Date.now() < this.account.endsAt - EARLY_MS ? this.account.access : this.#renew()
  }

  // A refresh token is good once, so callers at the same moment share one renewal.
  #renew () {
    this.#renewing ??= this.#renewNow().finally(() => { this.#renewing = null })
    return this.#renewing
  }

  async #renewNow () {
    if (this.account === null) throw new Problem(t('sessionEnded'), { status: 401 })
    try {
      this.#keep(await send('POST', '/auth/refresh', { body: { refresh_token: this.account.refresh } }))
    } catch (problem) {
      if (problem.status !== 401) throw problem
      this.#store(null)
      throw new Problem(t('sessionEnded'), { status: 401 })
    }
    return this.account.access
  }

  #keep ({ access_token: access, refresh_token: refresh, expires_in: seconds }) {
    this.#store({ ...this.account, access, refresh, endsAt: Date.now() + seconds * 1000 })
  }

  #store (account) {
    this.account = account
    if (account === null) sessionStorage.removeItem(KEY)
    else sessionStorage.setItem(KEY, JSON.stringify(account))
    this.dispatchEvent(new Event('change'))
  }
}
