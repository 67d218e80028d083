import pytest

from collab_server.transport.origins import OriginRules

RULES = OriginRules.of(["https://app.example.com"], "https://collab.example.com")


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://collab.example.com"])
def test_listed_origins_and_our_own_are_allowed(origin: str):
    assert RULES.allows(origin, "collab.example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "*",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "https://example.com",
        "https://APP.example.com",
        "https://app.example.com/",
        "https://user@collab.example.com",
        "file://collab.example.com",
        "http://[",
        "https://collab.example.com.",
        "javascript://collab.example.com",
    ],
)
def test_what_only_resembles_an_allowed_origin_is_not_allowed(origin: str):
    assert not RULES.allows(origin, "collab.example.com")


def test_a_page_opened_under_another_name_of_this_host_is_our_own():
    rules = OriginRules.of([], "http://127.0.0.1:8000")
    assert rules.allows("http://localhost:8000", "localhost:8000")
    assert not rules.allows("http://localhost:8001", "localhost:8000")
    assert not rules.allows("http://localhost:8000", None)
