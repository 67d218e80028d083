"""Who may do what: ONE table, and the rules about giving and taking roles. Every door asks here."""

from collections.abc import Mapping
from enum import StrEnum

from schemas.errors import Forbidden, LastOwner
from schemas.roles import Role


class Action(StrEnum):
    READ = "read"  # the header and the content
    CONNECT = "connect"  # a socket ticket
    LIST_MEMBERS = "list-members"
    WRITE = "write"  # updates; rules inside the document may narrow it
    RENAME = "rename"
    MANAGE_MEMBERS = "manage-members"
    SEE_EMAILS = "see-emails"  # of the other members
    DELETE = "delete"


LEAST_ROLE: Mapping[Action, Role] = {
    Action.READ: Role.VIEWER,
    Action.CONNECT: Role.VIEWER,
    Action.LIST_MEMBERS: Role.VIEWER,
    Action.WRITE: Role.PARTICIPANT,
    Action.RENAME: Role.EDITOR,
    Action.MANAGE_MEMBERS: Role.MODERATOR,
    Action.SEE_EMAILS: Role.MODERATOR,
    Action.DELETE: Role.OWNER,
}
"""The least role that may; each role may all that those below it may. Having no role is not a row: what
you have no role on does not exist for you."""


def allows(role: Role, action: Action) -> bool:
    return role.covers(LEAST_ROLE[action])


def require(role: Role, action: Action) -> None:
    """Raises ``Forbidden``."""
    if not allows(role, action):
        raise Forbidden


def require_may_give(actor: Role, *, to_self: bool, current: Role | None, new: Role) -> None:
    """Whether ``actor`` may make somebody, whose role is now ``current`` (None: no member), a ``new``.

    Anybody may step down. Giving to others takes the right to manage members; nobody gives more than they
    have, and only an owner acts on somebody at or above themselves. Raises ``Forbidden``.
    """
    if to_self:
        if not actor.covers(new):
            raise Forbidden("Nobody can raise their own role.")
        return
    require(actor, Action.MANAGE_MEMBERS)
    if not actor.covers(new):
        raise Forbidden("Nobody can give a role above their own.")
    _require_above(actor, current)


def require_may_remove(actor: Role, *, is_self: bool, current: Role) -> None:
    """Whether ``actor`` may end the membership of somebody who is ``current``. Leaving is always allowed
    here; ``require_an_owner_stays`` is asked as well. Raises ``Forbidden``."""
    if is_self:
        return
    require(actor, Action.MANAGE_MEMBERS)
    _require_above(actor, current)


def require_an_owner_stays(*, current: Role | None, new: Role | None, owners: int) -> None:
    """``owners`` counts the owners before the change. Raises ``LastOwner``."""
    if current is Role.OWNER and new is not Role.OWNER and owners <= 1:
        raise LastOwner


def _require_above(actor: Role, target: Role | None) -> None:
    if target is not None and actor is not Role.OWNER and target.covers(actor):
        raise Forbidden("Only an owner can change somebody whose role is not below their own.")
