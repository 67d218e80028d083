"""Password hashing off the event loop, in few threads and with a bounded queue."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from auth.passwords import Passwords
from schemas.errors import Overloaded

T = TypeVar("T")
MAX_WAITING = 32  # at 20 ms each and two slots the last one waits a third of a second


class Hashing:
    """argon2id costs 20 ms of a core and 19 MiB: ``slots`` bounds how much of both sign-ins can take."""

    def __init__(self, passwords: Passwords, slots: int) -> None:
        self._passwords = passwords
        self._places = slots + MAX_WAITING
        self._taken = 0
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="password")
        self._nobodys_hash = passwords.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Raises ``Overloaded``, as does ``verify``."""
        return await self._run(lambda: self._passwords.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """``hashed`` is None for an account that does not exist; that takes as long and is never right,
        so the time of the answer does not tell who has an account."""
        right = await self._run(lambda: self._passwords.verify(hashed or self._nobodys_hash, password))
        return right and hashed is not None

    def needs_rehash(self, hashed: str) -> bool:
        return self._passwords.needs_rehash(hashed)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._taken >= self._places:
            raise Overloaded(retry_after_seconds=1)
        self._taken += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(work))
        finally:
            self._taken -= 1
