"""All use cases of one app, typed: what a request finds in its lifespan state."""

from dataclasses import dataclass

from collab_server.services.access import AccessService
from collab_server.services.accounts import AccountService
from collab_server.services.announcements import Announcements
from collab_server.services.documents import DocumentService
from collab_server.services.health import HealthService
from collab_server.services.tickets import TicketService


@dataclass(frozen=True, slots=True)
class Services:
    accounts: AccountService
    documents: DocumentService
    tickets: TicketService
    access: AccessService
    health: HealthService
    announcements: Announcements
