"""What REST takes and gives, as pydantic models: the words of the OpenAPI description."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

VISIBLE_TEXT = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
"""At least one visible character and no control characters: Postgres refuses NUL, logs and mails newlines."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=VISIBLE_TEXT)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=VISIBLE_TEXT)]


class Form(BaseModel):
    """A request body. Unknown fields are refused, so that nothing can be assigned that is not named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class View(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)
