"""Accounts and signing in."""

from datetime import datetime
from typing import Annotated, Literal

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from schemas.forms import Form, Name, View


def _address(text: str) -> str:
    """The one spelling under which an address is stored and looked up. No DNS is asked; the reserved
    domain ``.test`` is allowed, because nothing is sent to anybody."""
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise PydanticCustomError("email", "{reason}", {"reason": str(error)}) from error
    return found.normalized.lower()


Email = Annotated[str, Field(max_length=254, json_schema_extra={"format": "email"}), AfterValidator(_address)]

Password = Annotated[str, StringConstraints(max_length=256), Field(json_schema_extra={"format": "password"})]
NewPassword = Annotated[
    str, StringConstraints(min_length=12, max_length=256), Field(json_schema_extra={"format": "password"})
]
"""12 to 256 characters of any kind, taken as they are."""

Device = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]

_ANNA: JsonDict = {"email": "anna@example.com", "password": "three quiet otters", "name": "Anna"}


class Registration(Form):
    model_config = ConfigDict(json_schema_extra={"examples": [_ANNA]})

    email: Email
    password: NewPassword = Field(repr=False)
    name: Name


class Login(Form):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"email": "anna@example.com", "password": "three quiet otters", "device": "laptop"}]
        }
    )

    email: Email
    password: Password = Field(repr=False)
    device: Device = Field("", description="What the list of sessions calls this one.")


class Refresh(Form):
    refresh_token: str = Field(max_length=200, repr=False)


class AccountView(View):
    id: str
    email: str
    name: str
    created_at: datetime


class TokensView(View):
    access_token: str = Field(description="A JWT for the Authorization header.", repr=False)
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds until the access token ends.")
    refresh_token: str = Field(
        description="Good once; the answer carries its successor. Using it again later ends the session.",
        repr=False,
    )
    session_id: str
