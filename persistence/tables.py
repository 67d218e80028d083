"""All tables, once. Times are UTC; ids are text so that both databases and every client agree on them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)


class Timestamp(TypeDecorator[datetime]):
    """A UTC time: aware on both databases (SQLite stores text without a zone). A naive one is a bug."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


accounts = Table(
    "accounts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),  # lower case, as compared
    Column("name", String(100), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("is_staff", Boolean, nullable=False, default=False),
    Column("created_at", Timestamp, nullable=False),
    Column("disabled_at", Timestamp),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("device", String(200), nullable=False, default=""),
    Column("refresh_hash", LargeBinary(32), nullable=False, unique=True),
    Column("previous_hash", LargeBinary(32), index=True),  # rotated last: reuse ends the session
    Column("rotated_at", Timestamp),
    Column("created_at", Timestamp, nullable=False),
    Column("idle_expires_at", Timestamp, nullable=False),
    Column("absolute_expires_at", Timestamp, nullable=False),
    Column("revoked_at", Timestamp),
)

documents = Table(
    "documents",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("title", String(200), nullable=False),
    Column("state", String(16), nullable=False, default="active"),  # active | deleted
    Column("head_seq", BigInteger, nullable=False, default=0),
    Column("acl_version", BigInteger, nullable=False, default=1),
    Column("bytes", BigInteger, nullable=False, default=0),  # payload bytes in the log
    Column("created_by", ForeignKey("accounts.id", ondelete="SET NULL")),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),  # of the metadata; log rows carry their own time
    Column("deleted_at", Timestamp),
    CheckConstraint("state IN ('active', 'deleted')", name="state"),
)

grants = Table(
    "grants",
    metadata,
    Column("document_id", ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Index("ix_grants_account_id_document_id", "account_id", "document_id"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("account_id", ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("document_id", ForeignKey("documents.id", ondelete="CASCADE"), nullable=False),
    Column("expires_at", Timestamp, nullable=False, index=True),
    Column("used_at", Timestamp),
)

updates = Table(
    "updates",
    metadata,
    Column("document_id", ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("batch_id", LargeBinary(16), nullable=False),
    Column("payload", LargeBinary, nullable=False),  # persistence/payload.py
    Column("crc32", BigInteger, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    # A commit whose answer was lost is tried again: the database itself refuses to write a batch twice.
    UniqueConstraint("document_id", "batch_id"),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("document_id", ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),  # rows 1..seq are in it
    Column("payload", LargeBinary, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("created_at", Timestamp, nullable=False),
)

client_ids = Table(
    "client_ids",
    metadata,
    Column("document_id", ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", BigInteger, primary_key=True, autoincrement=False),
    Column("principal", String(128), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

__all__ = [
    "accounts",
    "checkpoints",
    "client_ids",
    "documents",
    "grants",
    "metadata",
    "sessions",
    "tickets",
    "updates",
]
