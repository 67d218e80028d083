import pytest

from collab_server.transport.problems import TABLE, Row, close_for, problem_for, row_of
from schemas import errors
from schemas.errors import CollabError, FieldError

CLOSE_CODES = {4400, 4401, 4403, 4404, 4409, 4413, 4503, 4508, 4529, 1011, 1012, 1013}


def every_error(root: type[CollabError] = CollabError) -> list[type[CollabError]]:
    """Those of this server, not those that other tests make."""
    children = [kind for child in root.__subclasses__() for kind in every_error(child)]
    return [root, *children] if root.__module__.split(".")[0] != "tests" else children


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_row_of_its_own(kind: type[CollabError]):
    assert kind in TABLE


def test_every_error_has_a_slug_of_its_own():
    slugs = [kind.slug for kind in every_error()]
    assert sorted(slugs) == sorted(set(slugs))


@pytest.mark.parametrize("kind", every_error())
def test_every_error_is_a_whole_problem(kind: type[CollabError]):
    problem = problem_for(kind(), "request-1")
    assert problem.body == {
        "type": f"urn:collab:problem:{kind.slug}",
        "title": TABLE[kind].title,
        "status": TABLE[kind].status,
        "detail": kind.sentence,
        "instance": "request-1",
    }
    assert 400 <= problem.status < 600
    assert ("WWW-Authenticate" in problem.headers) is (problem.status == 401)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_known_close_code_and_a_reason_that_fits(kind: type[CollabError]):
    code, reason = close_for(kind())
    assert code in CLOSE_CODES
    assert reason == kind.slug
    assert len(reason.encode()) <= 123  # RFC 6455 5.5


@pytest.mark.parametrize("kind", every_error())
def test_what_may_pass_by_itself_never_closes_with_a_final_code(kind: type[CollabError]):
    if TABLE[kind].status in (408, 429, 500, 503, 507):
        assert not 4400 <= TABLE[kind].close < 4500


def test_only_a_reset_document_tells_clients_to_drop_their_state():
    assert [kind for kind, row in TABLE.items() if row.close == 4409] == [errors.DocumentReset]


def test_an_unknown_error_says_nothing():
    problem = problem_for(RuntimeError("password=hunter2"), "r")
    assert problem.status == 500
    assert "hunter2" not in str(problem)
    assert close_for(RuntimeError("password=hunter2")) == (1011, "internal")


def test_fields_and_the_time_to_wait_are_told():
    wrong = errors.InvalidForm(errors=[FieldError("/title", "missing", "Give a title.")])
    assert problem_for(wrong).body["errors"] == [
        {"pointer": "/title", "code": "missing", "detail": "Give a title."}
    ]
    assert problem_for(errors.RateLimited(retry_after_seconds=7)).headers == {"Retry-After": "7"}


def test_a_detail_of_its_own_is_shown():
    assert problem_for(errors.Forbidden("Not on Sundays.")).body["detail"] == "Not on Sundays."


def test_a_new_class_is_treated_as_its_parent_until_it_has_a_row():
    class Novel(errors.ReadOnly):
        slug = "novel"

    assert row_of(Novel) == TABLE[errors.ReadOnly] == Row(403, 4403, "Read only")
