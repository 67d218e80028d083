from itertools import product

import pytest

from auth.policy import (
    Action,
    allows,
    require,
    require_an_owner_stays,
    require_may_give,
    require_may_remove,
)
from schemas.errors import Forbidden, LastOwner
from schemas.roles import Role

TABLE = """
                viewer participant editor moderator owner
read            yes    yes         yes    yes       yes
connect         yes    yes         yes    yes       yes
list-members    yes    yes         yes    yes       yes
write           no     yes         yes    yes       yes
rename          no     no          yes    yes       yes
manage-members  no     no          no     yes       yes
see-emails      no     no          no     yes       yes
delete          no     no          no     no        yes
"""


def cells() -> list[tuple[Role, Action, bool]]:
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    return [
        (Role(role), Action(action), answer == "yes")
        for action, *answers in rows
        for role, answer in zip(header, answers, strict=True)
    ]


@pytest.mark.parametrize("role, action, allowed", cells())
def test_the_table_says_who_may_do_what(role: Role, action: Action, allowed: bool):
    assert allows(role, action) is allowed
    if not allowed:
        with pytest.raises(Forbidden):
            require(role, action)


def test_every_action_and_role_stands_in_the_table():
    assert {(role, action) for role, action, _ in cells()} == set(product(Role, Action))


def may_give(actor: Role, current: Role | None, new: Role, *, to_self: bool = False) -> bool:
    try:
        require_may_give(actor, to_self=to_self, current=current, new=new)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("actor, current, new", list(product(Role, [None, *Role], Role)))
def test_nobody_gives_above_themselves_and_only_an_owner_acts_on_equals(
    actor: Role, current: Role | None, new: Role
):
    managers = actor in (Role.MODERATOR, Role.OWNER)
    below = current is None or current.rank < actor.rank or actor is Role.OWNER
    assert may_give(actor, current, new) is (managers and new.rank <= actor.rank and below)


@pytest.mark.parametrize("role, new", list(product(Role, Role)))
def test_anybody_may_step_down_and_nobody_may_raise_themselves(role: Role, new: Role):
    assert may_give(role, role, new, to_self=True) is (new.rank <= role.rank)


@pytest.mark.parametrize("actor, target", list(product(Role, Role)))
def test_a_moderator_removes_those_below_and_an_owner_everybody(actor: Role, target: Role):
    allowed = actor is Role.OWNER or (actor is Role.MODERATOR and target.rank < actor.rank)
    if allowed:
        require_may_remove(actor, is_self=False, current=target)
    else:
        with pytest.raises(Forbidden):
            require_may_remove(actor, is_self=False, current=target)


@pytest.mark.parametrize("role", list(Role))
def test_everybody_may_leave(role: Role):
    require_may_remove(role, is_self=True, current=role)


@pytest.mark.parametrize("new", [None, *(role for role in Role if role is not Role.OWNER)])
def test_the_last_owner_stays(new: Role | None):
    with pytest.raises(LastOwner):
        require_an_owner_stays(current=Role.OWNER, new=new, owners=1)
    require_an_owner_stays(current=Role.OWNER, new=new, owners=2)


def test_other_members_may_go_while_one_owner_stays():
    require_an_owner_stays(current=Role.EDITOR, new=None, owners=1)
    require_an_owner_stays(current=Role.OWNER, new=Role.OWNER, owners=1)
