"""One-time tickets: how a browser opens a socket without putting its access token into a URL."""

from dataclasses import dataclass
from datetime import timedelta

from auth.policy import Action, require
from auth.secrets import digest, new_ticket
from collab_server.ports import Clock
from collab_server.services.accounts import Caller
from persistence import documents, tickets
from persistence.database import Database
from persistence.tickets import Ticket
from schemas.errors import DocumentNotFound
from schemas.ids import is_document_id


@dataclass(frozen=True, slots=True)
class TicketService:
    database: Database
    clock: Clock
    lifetime_seconds: int

    async def issue(self, caller: Caller, document_id: str) -> str:
        """256 bits, good once, for this account, session and document. Raises ``DocumentNotFound``."""
        if not is_document_id(document_id):
            raise DocumentNotFound
        secret = new_ticket()
        now = self.clock.now()
        ticket = Ticket(caller.account_id, caller.session_id, document_id)
        async with self.database.write() as connection:
            document = await documents.find(connection, caller.account_id, document_id)
            if document is None:
                raise DocumentNotFound
            require(document.my_role, Action.CONNECT)
            await tickets.forget_expired(connection, now)
            await tickets.add(connection, digest(secret), ticket, now + timedelta(seconds=self.lifetime_seconds))
        return secret
