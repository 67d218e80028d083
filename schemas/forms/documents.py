"""Documents, their members and socket tickets."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from schemas.forms import Form, Title, View
from schemas.forms.accounts import Email
from schemas.ids import DOCUMENT_ID_PATTERN
from schemas.kinds import KindName
from schemas.roles import Role

ChosenId = Annotated[str, StringConstraints(max_length=128, pattern=DOCUMENT_ID_PATTERN)]


class NewDocument(Form):
    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Meeting notes", "kind": "document"}]})

    id: ChosenId | None = Field(
        None, description="Chosen by the client, for documents made offline or brought from another server."
    )
    kind: KindName = KindName.DOCUMENT
    title: Title


class DocumentChange(Form):
    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Minutes"}]})

    title: Title


class DocumentView(View):
    id: str
    kind: KindName
    title: str
    my_role: Role
    seq: int = Field(description="The number of the newest saved row of its log.")
    size: int = Field(description="Bytes saved in its log.")
    created_at: datetime
    updated_at: datetime = Field(description="When the title or the state last changed.")


class DocumentPage(View):
    items: list[DocumentView]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")


class NewMember(Form):
    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "boris@example.com", "role": "editor"}]})

    email: Email
    role: Role


class MemberChange(Form):
    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "viewer"}]})

    role: Role


class MemberView(View):
    account_id: str
    name: str
    role: Role
    email: str | None = Field(description="Yours, and for those who manage members everybody's; else null.")
    since: datetime


class MemberList(View):
    items: list[MemberView]


class TicketView(View):
    ticket: str = Field(description="Opens one socket to this document, once: pass it as `?ticket=`.", repr=False)
    ws_url: str = Field(description="Where, without the ticket.")
    expires_in: int = Field(description="Seconds.")
