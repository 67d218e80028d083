"""Grants: account x document x role. Whoever changes one calls ``documents.access_changed`` as well."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.dialect import insert_if_absent
from persistence.tables import accounts, documents, grants, sessions
from schemas.roles import Role


@dataclass(frozen=True, slots=True)
class Member:
    account_id: str
    name: str
    email: str
    role: Role
    since: datetime

    def __repr__(self) -> str:
        return f"Member({self.account_id}, {self.role})"


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that decides whether a session may be in a document, from one consistent read.

    ``role`` is None without a grant; ``acl_version`` is None when there is no such active document.
    """

    account_id: str
    name: str
    disabled_at: datetime | None
    revoked_at: datetime | None
    idle_expires_at: datetime
    absolute_expires_at: datetime
    acl_version: int | None
    role: Role | None

    def signed_in(self, now: datetime) -> bool:
        ended = self.revoked_at is not None or self.disabled_at is not None
        return not ended and now < min(self.idle_expires_at, self.absolute_expires_at)


async def add(connection: AsyncConnection, document_id: str, account_id: str, role: Role, now: datetime) -> bool:
    """False when the account is a member already."""
    return await insert_if_absent(
        connection,
        grants,
        {"document_id": document_id, "account_id": account_id, "role": role.value, "created_at": now},
    )


async def change(connection: AsyncConnection, document_id: str, account_id: str, role: Role) -> None:
    await connection.execute(
        update(grants)
        .where(grants.c.document_id == document_id, grants.c.account_id == account_id)
        .values(role=role.value)
    )


async def remove(connection: AsyncConnection, document_id: str, account_id: str) -> None:
    await connection.execute(
        delete(grants).where(grants.c.document_id == document_id, grants.c.account_id == account_id)
    )


async def role_of(connection: AsyncConnection, document_id: str, account_id: str) -> Role | None:
    """The role on an active document. Does not lock: hold ``documents.lock`` to decide on it."""
    row = (
        await connection.execute(
            select(grants.c.role)
            .join(documents, documents.c.id == grants.c.document_id)
            .where(
                grants.c.document_id == document_id,
                grants.c.account_id == account_id,
                documents.c.state == "active",
            )
        )
    ).first()
    return None if row is None else Role(row.role)


async def owners(connection: AsyncConnection, document_id: str) -> int:
    count = await connection.execute(
        select(func.count()).where(grants.c.document_id == document_id, grants.c.role == Role.OWNER.value)
    )
    return int(count.scalar_one())


async def members(connection: AsyncConnection, document_id: str) -> list[Member]:
    """In the order they came."""
    rows = await connection.execute(
        select(grants.c.account_id, accounts.c.name, accounts.c.email, grants.c.role, grants.c.created_at)
        .join(accounts, accounts.c.id == grants.c.account_id)
        .where(grants.c.document_id == document_id)
        .order_by(grants.c.created_at, grants.c.account_id)
    )
    return [Member(row.account_id, row.name, row.email, Role(row.role), row.created_at) for row in rows]


async def standing(
    connection: AsyncConnection, *, account_id: str, session_id: str, document_id: str | None
) -> Standing | None:
    """Where this session of this account stands with this document; None when there is no such session."""
    row = (
        await connection.execute(
            select(
                accounts.c.id,
                accounts.c.name,
                accounts.c.disabled_at,
                sessions.c.revoked_at,
                sessions.c.idle_expires_at,
                sessions.c.absolute_expires_at,
                documents.c.acl_version,
                grants.c.role,
            )
            .select_from(sessions)
            .join(accounts, accounts.c.id == sessions.c.account_id)
            .outerjoin(documents, (documents.c.id == document_id) & (documents.c.state == "active"))
            .outerjoin(
                grants,
                (grants.c.document_id == documents.c.id) & (grants.c.account_id == accounts.c.id),
            )
            .where(sessions.c.id == session_id, sessions.c.account_id == account_id)
        )
    ).first()
    if row is None:
        return None
    return Standing(
        account_id=row.id,
        name=row.name,
        disabled_at=row.disabled_at,
        revoked_at=row.revoked_at,
        idle_expires_at=row.idle_expires_at,
        absolute_expires_at=row.absolute_expires_at,
        acl_version=row.acl_version,
        role=None if row.role is None else Role(row.role),
    )
