"""Whether this node can do its work."""

from dataclasses import dataclass

from sqlalchemy import text

from persistence.database import Database


@dataclass(frozen=True, slots=True)
class HealthService:
    database: Database

    async def ready(self) -> None:
        """Returns when the database answers. Raises ``StorageUnavailable``."""
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))
