"""Accounts: people who can sign in."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.dialect import insert_if_absent
from persistence.tables import accounts


@dataclass(frozen=True, slots=True)
class Account:
    """``email`` is lower case, as compared. ``password_hash`` is a PHC string and never leaves the server."""

    id: str
    email: str
    name: str
    password_hash: str
    created_at: datetime
    disabled_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Account({self.id})"  # no address and no hash in a log or a traceback


async def add(connection: AsyncConnection, account: Account) -> bool:
    """False when the address is taken."""
    return await insert_if_absent(
        connection,
        accounts,
        {
            "id": account.id,
            "email": account.email,
            "name": account.name,
            "password_hash": account.password_hash,
            "is_staff": False,
            "created_at": account.created_at,
        },
    )


async def by_email(connection: AsyncConnection, email: str) -> Account | None:
    return await _one(connection, accounts.c.email == email)


async def by_id(connection: AsyncConnection, account_id: str) -> Account | None:
    return await _one(connection, accounts.c.id == account_id)


async def replace_hash(connection: AsyncConnection, account: Account, password_hash: str) -> None:
    """Store a stronger hash of the same password, unless the password was changed meanwhile."""
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == account.id, accounts.c.password_hash == account.password_hash)
        .values(password_hash=password_hash)
    )


async def _one(connection: AsyncConnection, where: ColumnElement[bool]) -> Account | None:
    row = (await connection.execute(select(accounts).where(where))).first()
    return None if row is None else _account(row)


def _account(row: Row[tuple[object, ...]]) -> Account:
    fields = row._mapping
    return Account(
        id=fields["id"],
        email=fields["email"],
        name=fields["name"],
        password_hash=fields["password_hash"],
        created_at=fields["created_at"],
        disabled_at=fields["disabled_at"],
    )
