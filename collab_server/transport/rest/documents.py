"""/documents: headers, members and socket tickets. Not visible is 404, not allowed is 403."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response, status

from collab_server.transport.rest.dependencies import CurrentCaller, UseCases
from collab_server.transport.rest.json_route import JsonRoute
from collab_server.transport.rest.openapi import problems
from persistence.documents import Document
from persistence.grants import Member
from schemas import errors
from schemas.forms.documents import (
    DocumentChange,
    DocumentPage,
    DocumentView,
    MemberChange,
    MemberList,
    MemberView,
    NewDocument,
    NewMember,
    TicketView,
)
from schemas.kinds import KindName

router = APIRouter(prefix="/documents", tags=["documents"], route_class=JsonRoute)

DocumentPath = Annotated[str, Path(description="The document's id.", examples=["meeting-notes"])]
AccountPath = Annotated[str, Path(description="The member's account id.")]


@router.get(
    "",
    operation_id="listDocuments",
    summary="My documents, newest first",
    responses=problems(errors.InvalidForm),
)
async def list_documents(
    request: Request,
    response: Response,
    caller: CurrentCaller,
    use: UseCases,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the last page.")] = None,
    kind: Annotated[KindName | None, Query()] = None,
) -> DocumentPage:
    page = await use.documents.page(caller.account_id, limit=limit, cursor=cursor, kind=kind)
    if page.next_cursor is not None:
        query = {"limit": str(limit), "cursor": page.next_cursor} | ({"kind": kind.value} if kind else {})
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return DocumentPage(items=[_document(item) for item in page.items], next_cursor=page.next_cursor)


@router.post(
    "",
    operation_id="createDocument",
    summary="Make a document",
    status_code=status.HTTP_201_CREATED,
    responses=problems(errors.DocumentExists, body=True),
)
async def create_document(
    form: NewDocument, request: Request, response: Response, caller: CurrentCaller, use: UseCases
) -> DocumentView:
    """You become its owner. The id may be chosen by you, so that documents can be made offline."""
    document = await use.documents.create(caller.account_id, kind=form.kind, title=form.title, document_id=form.id)
    response.headers["Location"] = f"{request.url.path}/{document.id}"
    return _document(document)


@router.get(
    "/{document_id}",
    operation_id="getDocument",
    summary="One document's header",
    responses=problems(errors.DocumentNotFound),
)
async def get_document(document_id: DocumentPath, caller: CurrentCaller, use: UseCases) -> DocumentView:
    return _document(await use.documents.get(caller.account_id, document_id))


@router.patch(
    "/{document_id}",
    operation_id="changeDocument",
    summary="Rename a document (editor)",
    responses=problems(errors.DocumentNotFound, errors.Forbidden, body=True),
)
async def change_document(
    document_id: DocumentPath, form: DocumentChange, caller: CurrentCaller, use: UseCases
) -> DocumentView:
    return _document(await use.documents.rename(caller.account_id, document_id, form.title))


@router.delete(
    "/{document_id}",
    operation_id="deleteDocument",
    summary="Delete a document (owner)",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(errors.DocumentNotFound, errors.Forbidden, changes=True),
)
async def delete_document(document_id: DocumentPath, caller: CurrentCaller, use: UseCases) -> None:
    """Its sockets close with 4404. The id is not given again."""
    await use.documents.delete(caller.account_id, document_id)


@router.post(
    "/{document_id}/ticket",
    operation_id="createTicket",
    summary="A one-time ticket for a socket",
    status_code=status.HTTP_201_CREATED,
    responses=problems(errors.DocumentNotFound, changes=True),
)
async def create_ticket(
    document_id: DocumentPath, request: Request, caller: CurrentCaller, use: UseCases
) -> TicketView:
    """Good for one connection to this document, so that no access token has to stand in a URL."""
    ticket = await use.tickets.issue(caller, document_id)
    return TicketView(
        ticket=ticket,
        ws_url=f"{request.state.socket_url}/ws/{document_id}",
        expires_in=use.tickets.lifetime_seconds,
    )


@router.get(
    "/{document_id}/members",
    operation_id="listMembers",
    summary="Who has a role",
    responses=problems(errors.DocumentNotFound),
)
async def list_members(document_id: DocumentPath, caller: CurrentCaller, use: UseCases) -> MemberList:
    found = await use.documents.members(caller.account_id, document_id)
    return MemberList(items=[_member(member, with_email=sees) for member, sees in found])


@router.post(
    "/{document_id}/members",
    operation_id="addMember",
    summary="Add somebody by e-mail address (moderator)",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        errors.DocumentNotFound, errors.AccountNotFound, errors.Forbidden, errors.AlreadyMember, body=True
    ),
)
async def add_member(
    document_id: DocumentPath, form: NewMember, caller: CurrentCaller, use: UseCases
) -> MemberView:
    """Nobody gives a role above their own."""
    member = await use.documents.add_member(caller.account_id, document_id, form.email, form.role)
    return _member(member, with_email=True)


@router.put(
    "/{document_id}/members/{account_id}",
    operation_id="setMember",
    summary="Give or change a role (moderator), or step down yourself",
    responses=problems(
        errors.DocumentNotFound, errors.AccountNotFound, errors.Forbidden, errors.LastOwner, body=True
    ),
)
async def set_member(
    document_id: DocumentPath,
    account_id: AccountPath,
    form: MemberChange,
    caller: CurrentCaller,
    use: UseCases,
) -> MemberView:
    """Nobody gives a role above their own, and only an owner changes somebody who is not below them.
    Takes effect on open sockets at once."""
    member, sees = await use.documents.set_role(caller.account_id, document_id, account_id, form.role)
    return _member(member, with_email=sees)


@router.delete(
    "/{document_id}/members/{account_id}",
    operation_id="removeMember",
    summary="End a membership (moderator), or leave",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(
        errors.DocumentNotFound, errors.AccountNotFound, errors.Forbidden, errors.LastOwner, changes=True
    ),
)
async def remove_member(
    document_id: DocumentPath, account_id: AccountPath, caller: CurrentCaller, use: UseCases
) -> None:
    """The member's sockets close with 4403. The last owner cannot go."""
    await use.documents.remove_member(caller.account_id, document_id, account_id)


def _document(document: Document) -> DocumentView:
    return DocumentView(
        id=document.id,
        kind=KindName(document.kind),
        title=document.title,
        my_role=document.my_role,
        seq=document.head_seq,
        size=document.bytes,
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def _member(member: Member, *, with_email: bool) -> MemberView:
    return MemberView(
        account_id=member.account_id,
        name=member.name,
        role=member.role,
        email=member.email if with_email else None,
        since=member.since,
    )
