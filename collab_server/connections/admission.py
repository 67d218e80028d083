"""Who a socket's credential belongs to. Cookies are never asked: a foreign page could bring them along."""

from auth.secrets import is_ticket
from collab_server.services.access import Access, AccessService
from schemas.errors import (
    CollabError,
    DocumentDamaged,
    DocumentNotFound,
    DocumentReset,
    Forbidden,
    NotFound,
    TooLarge,
    Unauthenticated,
)
from schemas.ids import is_document_id


async def admit(access: AccessService, credential: str, document_id: str) -> Access:
    """``credential`` is a one-time ticket or an access token.

    Raises ``Unauthenticated``, ``TokenExpired``, ``DocumentNotFound`` or ``StorageUnavailable``.
    """
    if not credential:
        raise Unauthenticated
    if not is_document_id(document_id):
        raise DocumentNotFound
    if is_ticket(credential):
        return await access.by_ticket(credential, document_id)
    return await access.by_token(credential, document_id)


def concerns_rights(error: CollabError) -> bool:
    """Whether the peer may not be in the document, as opposed to trouble that passes."""
    return isinstance(error, Unauthenticated | Forbidden | NotFound)


def is_final(error: CollabError) -> bool:
    """Whether the same would happen to the peer in this document after every reconnect."""
    return concerns_rights(error) or isinstance(error, DocumentReset | TooLarge | DocumentDamaged)
