// The page at "/": sign in, choose a document, edit it in two panes. The address keeps the document: #/d/{id}
import { LitElement, html, nothing } from '../vendor.js'
import { Session } from './api.js'
import './pane.js'
import { language, t } from './texts.js'

const documentInAddress = () => /^#\/d\/(.+)$/.exec(location.hash)?.[1] ?? null

class CollabApp extends LitElement {
  static properties = { problem: { state: true }, busy: { state: true }, signingUp: { state: true }, documents: { state: true }, open: { state: true } }

  constructor () {
    super()
    Object.assign(this, { problem: '', busy: false, signingUp: true, documents: null, next: null, open: null })
    this.session = new Session()
    this.session.addEventListener('change', () => this.#onSession())
    addEventListener('hashchange', () => this.#route())
  }

  createRenderRoot () { return this }

  connectedCallback () {
    super.connectedCallback()
    if (this.session.account !== null) this.#route()
  }

  #onSession () {
    if (this.session.account === null) { this.documents = null; this.open = null; this.signingUp = false }
    this.requestUpdate()
  }

  /** Run something that may fail; what failed becomes the sentence on the page. */
  async #try (action) {
    this.busy = true
    this.problem = ''
    try { await action() } catch (problem) { this.problem = problem.message } finally { this.busy = false }
  }

  #route () {
    const id = documentInAddress()
    if (this.session.account === null) return undefined
    return this.#try(async () => {
      if (id === null) {
        this.open = null
        await this.#list()
      } else if (this.open?.id !== decodeURIComponent(id)) {
        this.open = null
        this.open = await this.session.document(decodeURIComponent(id))
      }
    })
  }

  async #list (cursor) {
    const { items, next_cursor: next } = await this.session.documents(cursor)
    this.documents = cursor ? [...this.documents, ...items] : items
    this.next = next
  }

  #onSign = event => {
    event.preventDefault()
    const { email, password, name } = Object.fromEntries(new FormData(event.target))
    this.#try(async () => {
      if (this.signingUp) await this.session.signUp(email, password, name)
      else await this.session.signIn(email, password)
      await this.#route()
    })
  }

  #onCreate = event => {
    event.preventDefault()
    const { title } = Object.fromEntries(new FormData(event.target))
    this.#try(async () => { location.hash = `#/d/${encodeURIComponent((await this.session.newDocument(title)).id)}` })
  }

  #onSignOut = () => { location.hash = ''; this.session.signOut() }

  #signForm () {
    return html`
      <form class="card" @submit=${this.#onSign}>
        <h2>${t(this.signingUp ? 'signUp' : 'signIn')}</h2>
        ${this.signingUp ? html`<label>${t('name')}<input name="name" autocomplete="name" required maxlength="100"></label>` : nothing}
        <label>${t('email')}<input name="email" type="email" autocomplete="username" required></label>
        <label>${t('password')}${this.signingUp ? html` <small>${t('passwordHint')}</small>` : nothing}
          <input name="password" type="password" required minlength=${this.signingUp ? 12 : 1} autocomplete=${this.signingUp ? 'new-password' : 'current-password'}>
        </label>
        <button ?disabled=${this.busy}>${t(this.signingUp ? 'signUp' : 'signIn')}</button>
        <button type="button" class="plain" @click=${() => { this.signingUp = !this.signingUp; this.problem = '' }}>${t(this.signingUp ? 'toSignIn' : 'toSignUp')}</button>
      </form>`
  }

  #documentList () {
    if (this.documents === null) return html`<p>${this.busy ? t('loading') : nothing}</p>`
    return html`
      <section class="card">
        <h2>${t('documents')}</h2>
        <form class="row" @submit=${this.#onCreate}>
          <label class="hidden" for="new-title">${t('newTitle')}</label>
          <input id="new-title" name="title" required maxlength="200" placeholder=${t('newTitle')}>
          <button ?disabled=${this.busy}>${t('create')}</button>
        </form>
        ${this.documents.length === 0
          ? html`<p>${t('noDocuments')}</p>`
          : html`<ul class="documents">${this.documents.map(({ id, title, updated_at: at }) => html`
              <li><a href="#/d/${encodeURIComponent(id)}">${title}</a><time datetime=${at}>${new Date(at).toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' })}</time></li>`)}</ul>`}
        ${this.next ? html`<button class="plain" @click=${() => this.#try(() => this.#list(this.next))}>${t('more')}</button>` : nothing}
      </section>`
  }

  #panes () {
    return html`
      <nav><a href="#">← ${t('back')}</a></nav>
      <h2>${this.open.title}</h2>
      <div class="panes">
        <editor-pane .session=${this.session} .document=${this.open} family="y-websocket" number="1"></editor-pane>
        <editor-pane .session=${this.session} .document=${this.open} family="hocuspocus" number="2"></editor-pane>
      </div>`
  }

  render () {
    const { account } = this.session
    return html`
      <header class="top">
        <h1>${t('title')}</h1>
        ${account?.name ? html`<span>${account.name}</span><button class="plain" @click=${this.#onSignOut}>${t('signOut')}</button>` : nothing}
      </header>
      <main>
        ${account === null ? html`<p class="intro">${t('intro')}</p>` : nothing}
        <p class="problem" role="alert">${this.problem || nothing}</p>
        ${account === null ? this.#signForm() : this.open !== null ? this.#panes() : this.#documentList()}
      </main>
      <footer><a href="/api/docs">${t('api')}</a></footer>`
  }
}

document.documentElement.lang = language
document.title = t('title')
customElements.define('collab-app', CollabApp)
