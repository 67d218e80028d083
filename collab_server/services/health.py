"""Whether this node can do its work."""

from dataclasses import dataclass

from persistence import migrate
from persistence.database import Database
from schemas.errors import StorageUnavailable


@dataclass(frozen=True, slots=True)
class HealthService:
    """``revision`` is the database schema this program was written for."""

    database: Database
    revision: str

    async def ready(self) -> None:
        """Returns when the database answers and has the right schema; else raises ``StorageUnavailable``."""
        if await migrate.current(self.database) != self.revision:
            raise StorageUnavailable("The database has another schema than this program: run the migrations.")
