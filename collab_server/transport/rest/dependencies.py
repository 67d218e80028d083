"""What routes ask for: the use cases and who is calling."""

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from collab_server.services.accounts import Caller
from collab_server.services.state import Services
from schemas.errors import Unauthenticated

_bearer = HTTPBearer(
    auto_error=False,  # the error table answers, not FastAPI
    scheme_name="accessToken",
    bearerFormat="JWT",
    description="An access token from /auth/login or /auth/refresh.",
)


def services_of(request: Request) -> Services:
    """Put there by the lifespan of ``app.py``."""
    return cast(Services, request.state.services)


async def caller_of(
    services: Annotated[Services, Depends(services_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    if credentials is None:
        raise Unauthenticated
    return await services.accounts.authenticate(credentials.credentials)


UseCases = Annotated[Services, Depends(services_of)]
CurrentCaller = Annotated[Caller, Depends(caller_of)]
