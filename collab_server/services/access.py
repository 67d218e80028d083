"""Who stands behind a socket, and whether they still may. The only door for sockets."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from auth.secrets import digest, is_ticket
from auth.tokens import AccessTokens
from collab_server.ports import Clock
from persistence import grants, sessions, tickets
from persistence.database import Database
from persistence.grants import Standing
from schemas.errors import DocumentNotFound, RoleRevoked, Unauthenticated
from schemas.ids import AccountId, Principal, is_document_id, principal_of
from schemas.roles import Role

log = structlog.get_logger(__name__)
SESSIONS_PER_QUERY = 500  # SQLite takes 999 parameters in older versions


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(frozen=True, slots=True)
class Access:
    """What one session may do in one document, as of ``acl_version``.

    ``expires_at`` (UTC) is when the credential itself ends: a JWT's exp; None for a ticket, which was used
    up, and for a recheck, which had no credential. Sessions are rechecked, so None is not for ever.
    """

    account_id: str
    name: str
    session_id: str
    document_id: str
    role: Role
    principal: Principal
    acl_version: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class AccessService:
    """Any method may raise ``StorageUnavailable``: then nothing is known about the credential."""

    database: Database
    clock: Clock
    access_tokens: AccessTokens

    async def by_ticket(self, ticket: str, document_id: str) -> Access:
        """Uses the ticket up, also when the answer is no.

        Raises ``Unauthenticated`` (unknown, used, expired, for another document, session ended) or
        ``DocumentNotFound`` (deleted, or the grant is gone).
        """
        if not is_ticket(ticket):
            raise Unauthenticated
        now = self.clock.now()
        standing: Standing | None = None
        async with self.database.write() as connection:
            used = await tickets.use(connection, digest(ticket), now)
            if used is not None and used.document_id == document_id:
                standing = await grants.standing(
                    connection,
                    account_id=used.account_id,
                    session_id=used.session_id,
                    document_id=used.document_id,
                )
        # Decided after the commit: an exception inside would roll back and make the ticket good again.
        if used is None:
            log.warning("ticket_refused", document_id=document_id)
            raise Unauthenticated
        return _access(standing, now, used.session_id, document_id)

    async def by_token(self, access_token: str, document_id: str) -> Access:
        """Raises ``TokenExpired``, ``Unauthenticated`` (also: session ended, account disabled), or
        ``DocumentNotFound`` (no such document, deleted, or no grant: the same to whoever asks)."""
        now = self.clock.now()
        claims = self.access_tokens.verify(access_token, now)
        standing = await self._standing(claims.account_id, claims.session_id, document_id)
        return _access(standing, now, claims.session_id, document_id, expires_at=claims.expires_at)

    async def recheck(self, account_id: str, session_id: str, document_id: str) -> Access:
        """The present role of somebody who was let in before.

        Raises ``Unauthenticated`` (session ended, account disabled), ``DocumentNotFound`` (deleted) or
        ``RoleRevoked`` (the grant is gone).
        """
        now = self.clock.now()
        standing = await self._standing(account_id, session_id, document_id)
        if standing is None or not standing.signed_in(now):
            raise Unauthenticated
        if standing.acl_version is not None and standing.role is None:
            raise RoleRevoked
        return _access(standing, now, session_id, document_id)

    async def ended_sessions(self, session_ids: Collection[str]) -> set[str]:
        """Those of ``session_ids`` that are over, on whatever node that happened."""
        now = self.clock.now()
        over: set[str] = set()
        async with self.database.read() as connection:
            for chunk in batched(sorted(session_ids), SESSIONS_PER_QUERY):
                over |= await sessions.ended(connection, chunk, now)
        return over

    async def _standing(self, account_id: str, session_id: str, document_id: str) -> Standing | None:
        known = document_id if is_document_id(document_id) else None  # Postgres takes no NUL, say
        async with self.database.read() as connection:
            return await grants.standing(
                connection, account_id=account_id, session_id=session_id, document_id=known
            )


def _access(
    standing: Standing | None,
    now: datetime,
    session_id: str,
    document_id: str,
    *,
    expires_at: datetime | None = None,
) -> Access:
    if standing is None or not standing.signed_in(now):
        raise Unauthenticated
    if standing.acl_version is None or standing.role is None:
        raise DocumentNotFound
    return Access(
        account_id=standing.account_id,
        name=standing.name,
        session_id=session_id,
        document_id=document_id,
        role=standing.role,
        principal=principal_of(AccountId(standing.account_id)),
        acl_version=standing.acl_version,
        expires_at=expires_at,
    )
