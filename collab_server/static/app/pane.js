// One editor: its own replica, its own connection, and honest signs of what is connected and what is saved.
import { LitElement, Y, html, nothing } from '../vendor.js'
import { TextBinding } from './binding.js'
import { HocuspocusConnection, YWebsocketConnection } from './connections.js'
import { t } from './texts.js'

export const ROOT = 'text'

const FAMILIES = {
  'y-websocket': { connect: YWebsocketConnection, label: 'viaYWebsocket' },
  hocuspocus: { connect: HocuspocusConnection, label: 'viaHocuspocus' }
}

class EditorPane extends LitElement {
  static properties = {
    session: { attribute: false }, document: { attribute: false }, family: { type: String }, number: { type: Number }
  }

  createRenderRoot () { return this }

  connectedCallback () {
    super.connectedCallback()
    this.doc = new Y.Doc()
    this.connection = new FAMILIES[this.family].connect(this.session, this.document.id, this.doc)
    this.connection.addEventListener('change', () => this.requestUpdate())
    this.connection.awareness.on('change', () => this.requestUpdate())
    this.connection.awareness.setLocalStateField('user', { name: t('you', { name: this.session.account.name, n: this.number }) })
    addEventListener('beforeunload', this.#onLeave)
  }

  disconnectedCallback () {
    super.disconnectedCallback()
    removeEventListener('beforeunload', this.#onLeave)
    this.binding?.destroy()
    this.connection.destroy()
    this.doc.destroy()
  }

  firstUpdated () {
    this.binding = new TextBinding(this.doc.getText(ROOT), this.querySelector('textarea'))
  }

  #onLeave = event => { if (!this.connection.saved && this.connection.unsaved > 0) event.preventDefault() }

  #onSwitch = event => {
    if (event.target.checked) this.connection.goOffline()
    else this.connection.goOnline()
  }

  #savedText () {
    const { state, saved, unsaved } = this.connection
    if (this.#readOnly) return ''
    if (saved) return t('saved')
    return state === 'connected' ? t('saving') : unsaved > 0 ? t('unsaved', { n: unsaved }) : ''
  }

  get #readOnly () { return this.document.my_role === 'viewer' }

  #others () {
    const states = [...this.connection.awareness.getStates()].filter(([id]) => id !== this.doc.clientID)
    return states.map(([, state]) => state.user?.name).filter(name => typeof name === 'string' && name !== '')
  }

  #presence () {
    const others = this.#others()
    return html`${t('alsoHere')} ${others.length > 0 ? others.map(name => html`<span class="person">${name}</span> `) : t('nobody')}`
  }

  render () {
    const { state, saved, sentence } = this.connection
    const id = `text-${this.number}`
    return html`
      <section class="pane" aria-labelledby="${id}-title">
        <header>
          <h3 id="${id}-title">${t('pane', { n: this.number })}</h3>
          <span class="family">${t(FAMILIES[this.family].label)}</span>
          <label class="switch"><input type="checkbox" role="switch" .checked=${state === 'offline'} @change=${this.#onSwitch}>${t('offlineSwitch')}</label>
        </header>
        <p class="signs" aria-live="polite">
          <span class="sign connection" data-state=${state}>${t(state)}</span>
          <span class="sign saving" data-saved=${String(saved)}>${this.#savedText()}</span>
        </p>
        <p class="sentence" role="status">${sentence || (this.#readOnly ? t('readOnly') : nothing)}</p>
        <label class="hidden" for=${id}>${t('text', { n: this.number })}</label>
        <textarea id=${id} spellcheck="false" ?readonly=${state === 'refused' || this.#readOnly}></textarea>
        <p class="presence" aria-live="polite">${state === 'connected' ? this.#presence() : nothing}</p>
      </section>`
  }
}

customElements.define('editor-pane', EditorPane)
