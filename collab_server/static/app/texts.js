// Every sentence of the pages, in the reader's language.

const TEXTS = {
  en: {
    title: 'Documents that merge',
    intro: 'Two editors of one document, side by side. Switch one off, write in both, switch it on again: nothing is lost.',
    signIn: 'Sign in', signUp: 'Create an account', signOut: 'Sign out',
    toSignUp: 'No account yet? Create one', toSignIn: 'You have an account? Sign in',
    email: 'E-mail', password: 'Password', passwordHint: 'at least 12 characters', name: 'Name',
    documents: 'Documents', newTitle: 'Title of a new document', create: 'Create', noDocuments: 'No documents yet. Make the first one.',
    more: 'Show more', back: 'All documents', api: 'The same over REST: the API', loading: 'Loading…',
    pane: 'Editor {n}', text: 'Text in editor {n}', offlineSwitch: 'Offline',
    viaYWebsocket: 'y-websocket client', viaHocuspocus: 'Hocuspocus client',
    offline: 'Offline', connecting: 'Connecting…', connected: 'Connected', refused: 'Not connected',
    saved: 'All saved', saving: 'Saving…', unsaved: 'Unsaved changes: {n}',
    alsoHere: 'Here:', nobody: 'Nobody else', you: '{name}, editor {n}',
    network: 'The server cannot be reached. Trying again…', sessionEnded: 'Your session has ended. Sign in again.',
    readOnly: 'You may read this document but not change it.',
    close4400: 'The server could not understand this editor and closed the connection.',
    close4403: 'You no longer have access to this document.', close4404: 'This document does not exist, or it is not for you.',
    close4409: 'This document was reset. Open it again.', close4413: 'This change is larger than the server accepts.',
    unexpected: 'The server answered in an unexpected way ({status}).'
  },
  ru: {
    title: 'Документы, которые сливаются',
    intro: 'Два редактора одного документа рядом. Отключите один, пишите в обоих, включите снова: ничего не потеряется.',
    signIn: 'Войти', signUp: 'Создать аккаунт', signOut: 'Выйти',
    toSignUp: 'Нет аккаунта? Создайте', toSignIn: 'Есть аккаунт? Войдите',
    email: 'Эл. почта', password: 'Пароль', passwordHint: 'не меньше 12 символов', name: 'Имя',
    documents: 'Документы', newTitle: 'Название нового документа', create: 'Создать', noDocuments: 'Документов пока нет. Создайте первый.',
    more: 'Показать ещё', back: 'Все документы', api: 'То же через REST: описание API', loading: 'Загрузка…',
    pane: 'Редактор {n}', text: 'Текст в редакторе {n}', offlineSwitch: 'Без сети',
    viaYWebsocket: 'клиент y-websocket', viaHocuspocus: 'клиент Hocuspocus',
    offline: 'Без сети', connecting: 'Подключение…', connected: 'На связи', refused: 'Нет подключения',
    saved: 'Всё сохранено', saving: 'Сохранение…', unsaved: 'Не сохранено изменений: {n}',
    alsoHere: 'Здесь:', nobody: 'Больше никого', you: '{name}, редактор {n}',
    network: 'Сервер недоступен. Пробуем снова…', sessionEnded: 'Сеанс закончился. Войдите снова.',
    readOnly: 'Этот документ вам можно читать, но не менять.',
    close4400: 'Сервер не понял этот редактор и закрыл соединение.',
    close4403: 'У вас больше нет доступа к этому документу.', close4404: 'Такого документа нет, или он не для вас.',
    close4409: 'Документ был пересоздан. Откройте его заново.', close4413: 'Изменение больше, чем принимает сервер.',
    unexpected: 'Сервер ответил неожиданно ({status}).',
    'problem:wrong-credentials': 'Неверная почта или пароль.', 'problem:email-taken': 'Аккаунт с этой почтой уже есть.',
    'problem:validation': 'Некоторые поля заполнены неверно.', 'problem:rate-limited': 'Слишком много попыток. Подождите немного.',
    'problem:unauthenticated': 'Сначала войдите.', 'problem:forbidden': 'Ваша роль этого не позволяет.',
    'problem:document-not-found': 'Такого документа нет, или он не для вас.', 'problem:too-large': 'Это больше, чем принимает сервер.',
    'problem:storage-unavailable': 'Хранилище сейчас недоступно. Попробуйте чуть позже.',
    'problem:storage-full': 'Хранилище заполнено: больше ничего не сохранить.', 'problem:overloaded': 'Сервер перегружен. Попробуйте чуть позже.'
  }
}

export const language = (globalThis.navigator?.languages ?? ['en']).map(tag => tag.slice(0, 2)).find(tag => tag in TEXTS) ?? 'en'

/** The sentence for `key`, with `{n}` filled in; `otherwise` (or English) when this language has none. */
export const t = (key, values = {}, otherwise = TEXTS.en[key] ?? key) =>
  (TEXTS[language][key] ?? otherwise).replace(/\{(\w+)\}/g, (_, name) => String(values[name]))
