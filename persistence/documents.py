"""Documents as rows: what they are called and who they are for. Their content is in the update log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.dialect import insert_if_absent
from persistence.tables import documents, grants
from schemas.roles import Role


@dataclass(frozen=True, slots=True)
class Document:
    """A document as one account sees it: ``my_role`` is that account's role."""

    id: str
    kind: str
    title: str
    my_role: Role
    head_seq: int
    bytes: int
    acl_version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of documents ended: newest first, the id breaks ties."""

    created_at: datetime
    document_id: str


def visible_to(account_id: str) -> Select[Any]:
    """Every document this account has a role on, and nothing else: the one door to reading documents."""
    return (
        select(documents, grants.c.role)
        .join(grants, grants.c.document_id == documents.c.id)
        .where(grants.c.account_id == account_id, documents.c.state == "active")
    )


async def add(
    connection: AsyncConnection, document_id: str, *, kind: str, title: str, created_by: str, now: datetime
) -> bool:
    """False when the id is taken, also by a deleted document or by one the account may not see."""
    return await insert_if_absent(
        connection,
        documents,
        {
            "id": document_id,
            "kind": kind,
            "title": title,
            "state": "active",
            "head_seq": 0,
            "acl_version": 1,
            "bytes": 0,
            "created_by": created_by,
            "created_at": now,
            "updated_at": now,
        },
    )


async def find(connection: AsyncConnection, account_id: str, document_id: str) -> Document | None:
    row = (await connection.execute(visible_to(account_id).where(documents.c.id == document_id))).first()
    return None if row is None else _document(row._mapping)


async def page(
    connection: AsyncConnection, account_id: str, *, limit: int, after: Position | None, kind: str | None
) -> list[Document]:
    """At most ``limit`` documents, newest first, starting behind ``after``."""
    query = visible_to(account_id)
    if kind is not None:
        query = query.where(documents.c.kind == kind)
    if after is not None:
        older = documents.c.created_at < after.created_at
        tie = and_(documents.c.created_at == after.created_at, documents.c.id < after.document_id)
        query = query.where(or_(older, tie))
    query = query.order_by(documents.c.created_at.desc(), documents.c.id.desc()).limit(limit)
    return [_document(row._mapping) for row in await connection.execute(query)]


async def rename(connection: AsyncConnection, document_id: str, title: str, now: datetime) -> None:
    await connection.execute(
        update(documents).where(documents.c.id == document_id).values(title=title, updated_at=now)
    )


async def lock(connection: AsyncConnection, document_id: str) -> bool:
    """Hold the document's row until the transaction ends, so that changes of who may do what come one
    after another and counts of owners stay true. False when there is no such active document."""
    query = select(documents.c.id).where(documents.c.id == document_id, documents.c.state == "active")
    return (await connection.execute(query.with_for_update())).first() is not None


async def access_changed(connection: AsyncConnection, document_id: str) -> None:
    """To be called in every transaction that changes a grant: the update log refuses what was accepted
    under an older version, so a revoked principal's last words are not committed after its revocation."""
    await connection.execute(
        update(documents).where(documents.c.id == document_id).values(acl_version=documents.c.acl_version + 1)
    )


async def delete(connection: AsyncConnection, document_id: str, now: datetime) -> None:
    """The row and its log stay; nobody finds it any more and the id is never given again."""
    await connection.execute(
        update(documents)
        .where(documents.c.id == document_id)
        .values(state="deleted", deleted_at=now, updated_at=now, acl_version=documents.c.acl_version + 1)
    )


def _document(fields: Any) -> Document:
    return Document(
        id=fields["id"],
        kind=fields["kind"],
        title=fields["title"],
        my_role=Role(fields["role"]),
        head_seq=fields["head_seq"],
        bytes=fields["bytes"],
        acl_version=fields["acl_version"],
        created_at=fields["created_at"],
        updated_at=fields["updated_at"],
    )
