"""Registering, signing in, staying signed in, signing out."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.passwords import MAX_LENGTH, MIN_LENGTH, weakness
from auth.secrets import RefreshTokens, digest, same
from auth.tokens import AccessTokens
from collab_server.ports import Clock
from collab_server.services.announcements import Announcements
from collab_server.services.hashing import Hashing
from persistence import accounts, grants, sessions
from persistence.accounts import Account
from persistence.database import Database
from persistence.sessions import Session
from schemas.errors import (
    AccountNotFound,
    EmailTaken,
    FieldError,
    InvalidForm,
    Unauthenticated,
    WrongCredentials,
)
from schemas.ids import new_id

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: an account in one of its sessions."""

    account_id: str
    session_id: str


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    access_token: str
    expires_in: int
    refresh_token: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionRules:
    """How long a session lives unused and at most, and how long a lost answer may be asked for again."""

    idle: timedelta
    absolute: timedelta
    grace: timedelta


class _Refusal(Enum):
    UNKNOWN = "unknown"
    REUSED = "reused"


@dataclass(frozen=True, slots=True)
class AccountService:
    database: Database
    clock: Clock
    hashing: Hashing
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    rules: SessionRules
    announcements: Announcements

    async def register(self, email: str, password: str, name: str) -> Account:
        """``email`` is lower case. Raises ``InvalidForm`` (weak password), ``EmailTaken``, ``Overloaded``."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            detail = f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters."
            raise InvalidForm(errors=[FieldError("/password", "password-length", detail)])
        if (reason := weakness(password, email=email)) is not None:
            raise InvalidForm(errors=[FieldError("/password", "password-common", reason)])
        hashed = await self.hashing.hash(password)
        account = Account(new_id(), email, name, hashed, self.clock.now())
        async with self.database.write() as connection:
            added = await accounts.add(connection, account)
        if not added:
            raise EmailTaken
        log.info("account_registered", account_id=account.id)
        return account

    async def log_in(self, email: str, password: str, device: str) -> Tokens:
        """A new session. Raises ``WrongCredentials``, the same in body and time whether the account is
        unknown, disabled, or the password wrong; ``Overloaded`` when too many wait."""
        async with self.database.read() as connection:
            account = await accounts.by_email(connection, email)
        right = await self.hashing.verify(account.password_hash if account else None, password)
        if account is None or not right or account.disabled_at is not None:
            log.warning("login_refused", account_id=account.id if account else None)
            raise WrongCredentials
        stronger: str | None = None
        if self.hashing.needs_rehash(account.password_hash):
            stronger = await self.hashing.hash(password)
        now = self.clock.now()
        session_id = new_id()
        refresh_token = self.refresh_tokens.first(session_id)
        session = Session(
            id=session_id,
            account_id=account.id,
            device=device,
            refresh_hash=digest(refresh_token),
            created_at=now,
            idle_expires_at=now + min(self.rules.idle, self.rules.absolute),
            absolute_expires_at=now + self.rules.absolute,
        )
        async with self.database.write() as connection:
            await sessions.add(connection, session)
            if stronger is not None:
                await accounts.replace_hash(connection, account, stronger)
        log.info("logged_in", account_id=account.id, session_id=session_id)
        return self._tokens(account.id, session_id, refresh_token, now)

    async def refresh(self, refresh_token: str) -> Tokens:
        """The one successor of a refresh token, and a new access token. Raises ``Unauthenticated``.

        A token that was replaced earlier ends its session: either its owner or a thief is a step behind,
        and we cannot know which (RFC 9700, 4.14.2). Only the newest replaced one is forgiven for a few
        seconds, because an answer can get lost; it gets the same successor again.
        """
        session_id = self.refresh_tokens.session_of(refresh_token)
        if session_id is None:
            raise Unauthenticated
        now = self.clock.now()
        account_id: str | None = None
        async with self.database.write() as connection:
            session = await sessions.by_id(connection, session_id, lock=True)
            outcome: str | _Refusal = _Refusal.UNKNOWN
            if session is not None and session.alive(now):
                account_id = session.account_id
                outcome = await self._rotate(connection, session, refresh_token, now)
        if outcome is _Refusal.REUSED:
            log.warning("refresh_token_reused", account_id=account_id, session_id=session_id)
            self.announcements.sessions_ended([session_id])
        if account_id is None or isinstance(outcome, _Refusal):
            raise Unauthenticated
        return self._tokens(account_id, session_id, outcome, now)

    async def _rotate(
        self, connection: AsyncConnection, session: Session, presented: str, now: datetime
    ) -> str | _Refusal:
        """The successor of a presented token, or why there is none. The row is locked."""
        account = await accounts.by_id(connection, session.account_id)
        if account is None or account.disabled_at is not None:
            return _Refusal.UNKNOWN
        successor = self.refresh_tokens.successor(presented)
        if same(digest(presented), session.refresh_hash):
            idle_until = now + self.rules.idle
            await sessions.rotate(connection, session, digest(successor), now=now, idle_until=idle_until)
            return successor
        if same(digest(presented), session.previous_hash) and session.rotated_at is not None:
            # Being the previous one says that the successor was not used: else it would be the previous.
            in_time = now - session.rotated_at <= self.rules.grace
            if in_time and same(digest(successor), session.refresh_hash):
                return successor
        if not self.refresh_tokens.issued(presented):
            return _Refusal.UNKNOWN
        await sessions.revoke(connection, session.id, now)
        return _Refusal.REUSED

    async def log_out(self, caller: Caller) -> None:
        """End this session: its tokens, tickets and sockets. Harmless when it has ended."""
        async with self.database.write() as connection:
            ended = await sessions.revoke(connection, caller.session_id, self.clock.now())
        if ended:
            log.info("logged_out", account_id=caller.account_id, session_id=caller.session_id)
            self.announcements.sessions_ended([caller.session_id])

    async def authenticate(self, access_token: str) -> Caller:
        """Who sends this access token, now: a session that has ended or a disabled account does not count,
        however long its token still runs. Raises ``Unauthenticated``, ``TokenExpired``."""
        now = self.clock.now()
        claims = self.access_tokens.verify(access_token, now)
        async with self.database.read() as connection:
            standing = await grants.standing(
                connection, account_id=claims.account_id, session_id=claims.session_id, document_id=None
            )
        if standing is None or not standing.signed_in(now):
            raise Unauthenticated
        return Caller(claims.account_id, claims.session_id)

    async def me(self, caller: Caller) -> Account:
        """Raises ``AccountNotFound``."""
        async with self.database.read() as connection:
            account = await accounts.by_id(connection, caller.account_id)
        if account is None:
            raise AccountNotFound
        return account

    def _tokens(self, account_id: str, session_id: str, refresh_token: str, now: datetime) -> Tokens:
        access_token = self.access_tokens.issue(account_id, session_id, now)
        return Tokens(access_token, self.access_tokens.lifetime_seconds, refresh_token, session_id)
