"""/auth: accounts and sign-in sessions."""

from fastapi import APIRouter, status

from collab_server.services.accounts import Tokens
from collab_server.transport.rest.dependencies import CurrentCaller, UseCases
from collab_server.transport.rest.json_route import JsonRoute
from collab_server.transport.rest.openapi import problems
from persistence.accounts import Account
from schemas import errors
from schemas.forms.accounts import AccountView, Login, Refresh, Registration, TokensView

router = APIRouter(prefix="/auth", tags=["auth"], route_class=JsonRoute)


@router.post(
    "/register",
    operation_id="register",
    summary="Make an account",
    status_code=status.HTTP_201_CREATED,
    responses=problems(errors.EmailTaken, errors.Overloaded, signed_in=False, body=True),
)
async def register(form: Registration, use: UseCases) -> AccountView:
    """A password has 12 to 256 characters of any kind and is not one of the first that are guessed."""
    return _account(await use.accounts.register(form.email, form.password, form.name))


@router.post(
    "/login",
    operation_id="logIn",
    summary="Sign in on this device",
    responses=problems(errors.WrongCredentials, errors.Overloaded, signed_in=False, body=True),
)
async def log_in(form: Login, use: UseCases) -> TokensView:
    """Starts a new session. Unknown account and wrong password get the same answer."""
    return _tokens(await use.accounts.log_in(form.email, form.password, form.device))


@router.post(
    "/refresh",
    operation_id="refresh",
    summary="Get new tokens",
    responses=problems(errors.Unauthenticated, signed_in=False, body=True),
)
async def refresh(form: Refresh, use: UseCases) -> TokensView:
    """Every use replaces the refresh token. Using a replaced one ends the session, except within a few
    seconds, when the answer may have been lost: then the same successor comes again."""
    return _tokens(await use.accounts.refresh(form.refresh_token))


@router.post(
    "/logout",
    operation_id="logOut",
    summary="End this session and its sockets",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(changes=True),
)
async def log_out(caller: CurrentCaller, use: UseCases) -> None:
    await use.accounts.log_out(caller)


@router.get("/me", operation_id="me", summary="Who am I", responses=problems(errors.AccountNotFound))
async def me(caller: CurrentCaller, use: UseCases) -> AccountView:
    return _account(await use.accounts.me(caller))


def _account(account: Account) -> AccountView:
    return AccountView(id=account.id, email=account.email, name=account.name, created_at=account.created_at)


def _tokens(tokens: Tokens) -> TokensView:
    return TokensView(
        access_token=tokens.access_token,
        expires_in=tokens.expires_in,
        refresh_token=tokens.refresh_token,
        session_id=tokens.session_id,
    )
