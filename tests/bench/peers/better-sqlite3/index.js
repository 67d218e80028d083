// better-sqlite3 must be compiled, or fetched as a binary, for one exact Node. Node has SQLite inside, and the
// extension calls only `new Database(file)`, `exec`, `prepare().get()` and `prepare().run()`: the same there.
export { DatabaseSync as default } from 'node:sqlite'
