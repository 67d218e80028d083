"""Documents and who may do what with them. What an account has no role on does not exist for it."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.policy import (
    Action,
    allows,
    require,
    require_an_owner_stays,
    require_may_give,
    require_may_remove,
)
from collab_server.ports import Clock
from collab_server.services.announcements import Announcements
from persistence import accounts, documents, grants
from persistence.database import Database
from persistence.documents import Document, Position
from persistence.grants import Member
from schemas.errors import (
    AccountNotFound,
    AlreadyMember,
    DocumentExists,
    DocumentNotFound,
    FieldError,
    InvalidForm,
)
from schemas.ids import is_document_id, new_id
from schemas.kinds import KindName
from schemas.roles import Role

log = structlog.get_logger(__name__)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Document]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class DocumentService:
    """Every method takes the account that asks. All of them raise ``DocumentNotFound`` for what it may
    not see, and ``Forbidden`` for what its role does not allow."""

    database: Database
    clock: Clock
    announcements: Announcements

    async def create(self, account_id: str, *, kind: KindName, title: str, document_id: str | None) -> Document:
        """The creator becomes the owner. Raises ``DocumentExists``: a chosen id that is taken says so even
        when the document is somebody else's, which is the price of ids chosen by clients."""
        document_id = document_id or new_id()
        now = self.clock.now()
        async with self.database.write() as connection:
            added = await documents.add(
                connection, document_id, kind=kind, title=title, created_by=account_id, now=now
            )
            if not added:
                raise DocumentExists
            await grants.add(connection, document_id, account_id, Role.OWNER, now)
            return await _visible(connection, account_id, document_id)

    async def page(
        self, account_id: str, *, limit: int, cursor: str | None = None, kind: KindName | None = None
    ) -> Page:
        """The account's documents, newest first. Raises ``InvalidForm`` for a cursor that is not ours."""
        after = None if cursor is None else _position(cursor)
        async with self.database.read() as connection:
            found = await documents.page(connection, account_id, limit=limit + 1, after=after, kind=kind)
        items = found[:limit]
        return Page(items, _cursor(items[-1]) if len(found) > limit else None)

    async def get(self, account_id: str, document_id: str) -> Document:
        async with self.database.read() as connection:
            return await _visible(connection, account_id, document_id)

    async def rename(self, account_id: str, document_id: str, title: str) -> Document:
        async with self.database.write() as connection:
            document = await _locked(connection, account_id, document_id)
            require(document.my_role, Action.RENAME)
            await documents.rename(connection, document_id, title, self.clock.now())
            return await _visible(connection, account_id, document_id)

    async def delete(self, account_id: str, document_id: str) -> None:
        """Soft: the row and its log stay for an operator; for everybody else it is gone."""
        async with self.database.write() as connection:
            document = await _locked(connection, account_id, document_id)
            require(document.my_role, Action.DELETE)
            await documents.delete(connection, document_id, self.clock.now())
        log.info("document_deleted", account_id=account_id, document_id=document_id)
        self.announcements.access_changed(document_id)

    async def members(self, account_id: str, document_id: str) -> list[tuple[Member, bool]]:
        """Everybody with a role, and whether the asking account may see their address."""
        async with self.database.read() as connection:
            document = await _visible(connection, account_id, document_id)
            require(document.my_role, Action.LIST_MEMBERS)
            found = await grants.members(connection, document_id)
        return [(member, _sees_email(document.my_role, account_id, member)) for member in found]

    async def add_member(self, account_id: str, document_id: str, email: str, role: Role) -> Member:
        """Raises ``AccountNotFound`` and ``AlreadyMember``."""
        async with self.database.write() as connection:
            document = await _locked(connection, account_id, document_id)
            require_may_give(document.my_role, to_self=False, current=None, new=role)
            account = await accounts.by_email(connection, email)
            if account is None:
                raise AccountNotFound
            if not await grants.add(connection, document_id, account.id, role, self.clock.now()):
                raise AlreadyMember
            await documents.access_changed(connection, document_id)
            member = await _member(connection, document_id, account.id)
        self._access_changed(account_id, document_id, account.id, role)
        return member

    async def set_role(self, account_id: str, document_id: str, member_id: str, role: Role) -> tuple[Member, bool]:
        """Make somebody a member or change their role; also says whether the asking account may see their
        address. Raises ``AccountNotFound`` and ``LastOwner``. The same role again changes nothing."""
        async with self.database.write() as connection:
            document = await _locked(connection, account_id, document_id)
            current = await _role_of(connection, document_id, member_id)
            is_self = member_id == account_id
            require_may_give(document.my_role, to_self=is_self, current=current, new=role)
            owners = await grants.owners(connection, document_id)
            require_an_owner_stays(current=current, new=role, owners=owners)
            if current is None:
                if not _is_uuid(member_id) or await accounts.by_id(connection, member_id) is None:
                    raise AccountNotFound
                await grants.add(connection, document_id, member_id, role, self.clock.now())
            elif current is not role:
                await grants.change(connection, document_id, member_id, role)
            if current is not role:
                await documents.access_changed(connection, document_id)
            member = await _member(connection, document_id, member_id)
        if current is not role:
            self._access_changed(account_id, document_id, member_id, role)
        my_role = role if is_self else document.my_role
        return member, _sees_email(my_role, account_id, member)

    async def remove_member(self, account_id: str, document_id: str, member_id: str) -> None:
        """End a membership, or leave. Raises ``AccountNotFound`` for no member and ``LastOwner``."""
        async with self.database.write() as connection:
            document = await _locked(connection, account_id, document_id)
            current = await _role_of(connection, document_id, member_id)
            if current is None:
                require(document.my_role, Action.MANAGE_MEMBERS)
                raise AccountNotFound
            require_may_remove(document.my_role, is_self=member_id == account_id, current=current)
            owners = await grants.owners(connection, document_id)
            require_an_owner_stays(current=current, new=None, owners=owners)
            await grants.remove(connection, document_id, member_id)
            await documents.access_changed(connection, document_id)
        self._access_changed(account_id, document_id, member_id, None)

    def _access_changed(self, actor: str, document_id: str, member_id: str, role: Role | None) -> None:
        log.info("role_changed", account_id=actor, document_id=document_id, member_id=member_id, role=role)
        self.announcements.access_changed(document_id)


async def _visible(connection: AsyncConnection, account_id: str, document_id: str) -> Document:
    if not is_document_id(document_id):
        raise DocumentNotFound
    document = await documents.find(connection, account_id, document_id)
    if document is None:
        raise DocumentNotFound
    return document


async def _locked(connection: AsyncConnection, account_id: str, document_id: str) -> Document:
    """Look, lock, look again: strangers get no lock on what is not theirs, and a role read before the lock
    may be gone by the time we hold it."""
    await _visible(connection, account_id, document_id)
    if not await documents.lock(connection, document_id):
        raise DocumentNotFound
    return await _visible(connection, account_id, document_id)


async def _member(connection: AsyncConnection, document_id: str, account_id: str) -> Member:
    found = await grants.members(connection, document_id)
    return next(member for member in found if member.account_id == account_id)


async def _role_of(connection: AsyncConnection, document_id: str, account_id: str) -> Role | None:
    return await grants.role_of(connection, document_id, account_id) if _is_uuid(account_id) else None


def _is_uuid(text: str) -> bool:
    """Ids come from URLs: what is no id is not even asked for (Postgres refuses a NUL with an error)."""
    return _UUID.fullmatch(text) is not None


def _sees_email(role: Role, account_id: str, member: Member) -> bool:
    return member.account_id == account_id or allows(role, Action.SEE_EMAILS)


def _cursor(document: Document) -> str:
    text = json.dumps([document.created_at.isoformat(), document.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, document_id = json.loads(text)
        position = Position(datetime.fromisoformat(created_at), document_id)
        if position.created_at.utcoffset() is None or not is_document_id(document_id):
            raise ValueError(cursor)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        wrong = FieldError("/cursor", "cursor", "This is not a cursor of this list.")
        raise InvalidForm(errors=[wrong]) from error
    return position
