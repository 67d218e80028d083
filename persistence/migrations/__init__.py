"""Alembic revisions, run by ``persistence.migrate``; each is frozen once released."""
