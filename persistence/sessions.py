"""Sign-in sessions: one per device, carried on by rotating refresh tokens."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.tables import accounts, sessions


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """``refresh_hash`` is of the newest token; ``previous_hash`` of the one it replaced at ``rotated_at``."""

    id: str
    account_id: str
    device: str
    refresh_hash: bytes
    created_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    previous_hash: bytes | None = None
    rotated_at: datetime | None = None
    revoked_at: datetime | None = None

    def alive(self, now: datetime) -> bool:
        return self.revoked_at is None and now < min(self.idle_expires_at, self.absolute_expires_at)


async def add(connection: AsyncConnection, session: Session) -> None:
    await connection.execute(
        insert(sessions).values(
            id=session.id,
            account_id=session.account_id,
            device=session.device,
            refresh_hash=session.refresh_hash,
            created_at=session.created_at,
            idle_expires_at=session.idle_expires_at,
            absolute_expires_at=session.absolute_expires_at,
        )
    )


async def by_id(connection: AsyncConnection, session_id: str, *, lock: bool = False) -> Session | None:
    """``lock`` holds the row until the transaction ends: parallel refreshes come one after another.
    (SQLite has one writer at a time and needs no row locks.)"""
    query = select(sessions).where(sessions.c.id == session_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        return None
    fields = row._mapping
    return Session(
        id=fields["id"],
        account_id=fields["account_id"],
        device=fields["device"],
        refresh_hash=fields["refresh_hash"],
        created_at=fields["created_at"],
        idle_expires_at=fields["idle_expires_at"],
        absolute_expires_at=fields["absolute_expires_at"],
        previous_hash=fields["previous_hash"],
        rotated_at=fields["rotated_at"],
        revoked_at=fields["revoked_at"],
    )


async def rotate(
    connection: AsyncConnection,
    session: Session,
    successor_hash: bytes,
    *,
    now: datetime,
    idle_until: datetime,
) -> None:
    """Make ``successor_hash`` the newest token. The row must be locked by this transaction."""
    await connection.execute(
        update(sessions)
        .where(sessions.c.id == session.id)
        .values(
            refresh_hash=successor_hash,
            previous_hash=session.refresh_hash,
            rotated_at=now,
            idle_expires_at=min(idle_until, session.absolute_expires_at),
        )
    )


async def ended(connection: AsyncConnection, session_ids: Collection[str], now: datetime) -> set[str]:
    """Those of ``session_ids`` that are over: revoked, expired, forgotten, or their account disabled."""
    alive = (
        select(sessions.c.id)
        .join(accounts, accounts.c.id == sessions.c.account_id)
        .where(
            sessions.c.id.in_(session_ids),
            sessions.c.revoked_at.is_(None),
            sessions.c.idle_expires_at > now,
            sessions.c.absolute_expires_at > now,
            accounts.c.disabled_at.is_(None),
        )
    )
    return set(session_ids) - set((await connection.execute(alive)).scalars())


async def revoke(connection: AsyncConnection, session_id: str, now: datetime) -> bool:
    """End a session; False when it had ended before."""
    result = await connection.execute(
        update(sessions)
        .where(sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(sessions.c.id)
    )
    return result.first() is not None
