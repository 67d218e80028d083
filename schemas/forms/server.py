"""What the server says about itself, and how it says that something went wrong (RFC 9457)."""

from pydantic import ConfigDict, Field

from schemas.forms import View
from schemas.kinds import KindName


class KindView(View):
    name: KindName
    title: str


class InfoView(View):
    name: str
    version: str
    kinds: list[KindView]


class HealthView(View):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


class FieldProblem(View):
    pointer: str = Field(description="A JSON pointer (RFC 6901) into the request body, or to a parameter.")
    code: str
    detail: str


class Problem(View):
    """RFC 9457 problem details."""

    type: str = Field(description="`urn:collab:problem:<slug>`: stable, compare this.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request id, as in `X-Request-Id` and the server's log.")
    errors: list[FieldProblem] = Field(default_factory=list, description="What is wrong with which field.")
