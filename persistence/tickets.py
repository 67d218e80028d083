"""One-time socket tickets, stored as SHA-256."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.tables import tickets

FORGOTTEN_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Ticket:
    account_id: str
    session_id: str
    document_id: str


async def add(connection: AsyncConnection, hashed: bytes, ticket: Ticket, expires_at: datetime) -> None:
    await connection.execute(
        insert(tickets).values(
            hash=hashed,
            account_id=ticket.account_id,
            session_id=ticket.session_id,
            document_id=ticket.document_id,
            expires_at=expires_at,
        )
    )


async def use(connection: AsyncConnection, hashed: bytes, now: datetime) -> Ticket | None:
    """Use a ticket up; None when it is unknown, used or expired.

    One UPDATE decides, so of two sockets with the same ticket exactly one gets in.
    """
    row = (
        await connection.execute(
            update(tickets)
            .where(tickets.c.hash == hashed, tickets.c.used_at.is_(None), tickets.c.expires_at > now)
            .values(used_at=now)
            .returning(tickets.c.account_id, tickets.c.session_id, tickets.c.document_id)
        )
    ).first()
    return None if row is None else Ticket(row.account_id, row.session_id, row.document_id)


async def forget_expired(connection: AsyncConnection, now: datetime) -> None:
    """Used tickets stay until they would have expired: until then a second use must be recognised as one.

    A few at a time, and only rows nobody else is deleting: two such deletes could block each other.
    """
    expired = select(tickets.c.hash).where(tickets.c.expires_at <= now).limit(FORGOTTEN_AT_ONCE)
    await connection.execute(delete(tickets).where(tickets.c.hash.in_(expired.with_for_update(skip_locked=True))))
