import asyncio
from typing import Any

import pytest
from fastapi.routing import APIRoute

from collab_server.transport.rest import documents as documents_routes
from schemas.roles import Role
from tests.integration.world import World, acl_version, slug


class TestDocuments:
    async def test_its_creator_owns_it(self, world: World):
        anna = await world.person("Anna")
        made = await anna.ask("POST", "/documents", {"title": "Notes", "kind": "board"})
        assert made.status_code == 201
        body = made.json()
        assert body == {
            "id": body["id"],
            "kind": "board",
            "title": "Notes",
            "my_role": "owner",
            "seq": 0,
            "size": 0,
            "created_at": "2026-11-20T12:00:00Z",
            "updated_at": "2026-11-20T12:00:00Z",
        }
        assert made.headers["location"] == f"/api/v1/documents/{body['id']}"
        assert (await anna.ask("GET", f"/documents/{body['id']}")).json() == body

    async def test_a_client_may_choose_the_id_once(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        form = {"title": "Offline", "id": "made-offline_1.0~x"}
        assert (await anna.ask("POST", "/documents", form)).json()["id"] == form["id"]
        for person in (anna, boris):
            again = await person.ask("POST", "/documents", form)
            assert (again.status_code, slug(again)) == (409, "document-exists")
        assert (await boris.ask("GET", f"/documents/{form['id']}")).status_code == 404

    async def test_of_ten_at_once_with_one_id_one_is_made(self, world: World):
        anna = await world.person("Anna")
        asked = [anna.ask("POST", "/documents", {"title": "T", "id": "same"}) for _ in range(10)]
        assert sorted(a.status_code for a in await asyncio.gather(*asked)) == [201] + [409] * 9

    async def test_an_id_that_is_no_path_segment_is_refused(self, small_world: World):
        anna = await small_world.person("Anna")
        for chosen in ("", "a/b", "../x", "a b", "ж", ".hidden", "a" * 129, "a\n", "a?b", 7):
            answer = await anna.ask("POST", "/documents", {"title": "T", "id": chosen})
            assert (answer.status_code, slug(answer)) == (422, "validation"), chosen

    async def test_renaming_changes_the_title_and_the_time(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        world.clock.advance(60)
        renamed = await anna.ask("PATCH", f"/documents/{document_id}", {"title": "Minutes"})
        assert renamed.json()["title"] == "Minutes"
        assert renamed.json()["updated_at"] == "2026-11-20T12:01:00Z"
        assert renamed.json()["created_at"] == "2026-11-20T12:00:00Z"

    async def test_nothing_else_can_be_assigned(self, small_world: World):
        anna = await small_world.person("Anna")
        document_id = await small_world.document(anna)
        for field in ("my_role", "state", "created_by", "acl_version", "id", "kind"):
            answer = await anna.ask("PATCH", f"/documents/{document_id}", {"title": "T", field: "x"})
            assert (answer.status_code, slug(answer)) == (422, "validation"), field

    async def test_a_deleted_document_is_gone_for_everybody_and_its_id_is_not_given_again(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, editor=boris)
        before = await acl_version(world, document_id)
        assert (await anna.ask("DELETE", f"/documents/{document_id}")).status_code == 204
        assert world.access_changed == [document_id]
        assert await acl_version(world, document_id) == before + 1
        for person in (anna, boris):
            assert (await person.ask("GET", f"/documents/{document_id}")).status_code == 404
            assert (await person.ask("GET", "/documents")).json()["items"] == []
        assert (await anna.ask("DELETE", f"/documents/{document_id}")).status_code == 404
        again = await anna.ask("POST", "/documents", {"title": "T", "id": document_id})
        assert slug(again) == "document-exists"


class TestListing:
    async def test_it_shows_mine_and_what_was_shared_with_me_newest_first(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        first = await world.document(anna, viewer=boris)
        world.clock.advance(1)
        await world.document(anna)
        world.clock.advance(1)
        own = await world.document(boris)
        items = (await boris.ask("GET", "/documents")).json()["items"]
        assert [(item["id"], item["my_role"]) for item in items] == [(own, "owner"), (first, "viewer")]

    async def test_pages_follow_each_other_without_gap_or_repeat(self, world: World):
        anna = await world.person("Anna")
        for number in range(7):  # three of them in the same instant
            await anna.ask("POST", "/documents", {"title": "T", "id": f"d{number}"})
            world.clock.advance(number % 2)
        seen: list[str] = []
        url: str | None = "/documents?limit=3"
        while url is not None:
            answer = await anna.ask("GET", url)
            seen += [item["id"] for item in answer.json()["items"]]
            link = answer.headers.get("link")
            assert (link is None) is (answer.json()["next_cursor"] is None)
            url = None if link is None else link.partition(">")[0].removeprefix("</api/v1")
            await anna.ask("POST", "/documents", {"title": "newer ones do not disturb"})
        assert sorted(seen) == [f"d{number}" for number in range(7)]
        assert len(seen) == 7

    async def test_it_can_be_narrowed_to_a_kind(self, world: World):
        anna = await world.person("Anna")
        for kind in ("room", "board", "room"):
            await anna.ask("POST", "/documents", {"title": "T", "kind": kind})
        answer = await anna.ask("GET", "/documents?kind=room&limit=1")
        assert [item["kind"] for item in answer.json()["items"]] == ["room"]
        assert "kind=room" in answer.headers["link"]

    async def test_a_made_up_query_is_refused(self, small_world: World):
        anna = await small_world.person("Anna")
        for query in (
            "limit=0",
            "limit=201",
            "limit=x",
            "kind=poem",
            "cursor=x",
            "cursor=%00",
            "cursor=e30",
            "cursor=W10",
            "cursor=WyJhIiwiYiJd",
            "cursor=WyIyMDI2LTExLTIwVDEyOjAwOjAwIiwiYSJd",  # a time without a zone
            "cursor=WzEsMl0",
            "cursor=" + "W" * 300,
        ):
            answer = await anna.ask("GET", f"/documents?{query}")
            assert (answer.status_code, slug(answer)) == (422, "validation"), query
            assert answer.json()["errors"][0]["pointer"] == "/" + query.partition("=")[0]


class TestStrangers:
    async def test_a_foreign_document_looks_like_none(self, world: World):
        anna, stranger = await world.person("Anna"), await world.person("Stranger")
        document_id = await world.document(anna)
        somebody = "/members/00000000-0000-4000-8000-000000000000"
        doors: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("PATCH", "", {"title": "Mine"}),
            ("DELETE", "", None),
            ("POST", "/ticket", None),
            ("GET", "/members", None),
            ("POST", "/members", {"email": "anna@example.com", "role": "viewer"}),
            ("PUT", somebody, {"role": "viewer"}),
            ("DELETE", somebody, None),
        ]
        for method, path, body in doors:
            foreign = await stranger.ask(method, f"/documents/{document_id}{path}", body)
            unknown = await stranger.ask(method, f"/documents/no-such-document{path}", body)
            assert (foreign.status_code, slug(foreign)) == (404, "document-not-found"), (method, path)
            assert foreign.json() | {"instance": ""} == unknown.json() | {"instance": ""}

    async def test_a_name_that_can_be_no_document_is_not_found(self, world: World):
        anna = await world.person("Anna")
        for name in ("%00", "a%00b", "%2e%2e", "a%20b", "%F0%9F%A6%A6", "a" * 300):
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/ticket"), ("GET", "/members")):
                answer = await anna.ask(method, f"/documents/{name}{path}")
                assert answer.status_code == 404, (method, name, path)

    async def test_a_name_that_can_be_no_account_is_not_found(self, world: World):
        anna = await world.person("Anna")
        document_id = await world.document(anna)
        for name in ("%00", "me", "x" * 300, "'; DROP TABLE grants; --"):
            put = await anna.ask("PUT", f"/documents/{document_id}/members/{name}", {"role": "viewer"})
            gone = await anna.ask("DELETE", f"/documents/{document_id}/members/{name}")
            assert slug(put) == slug(gone) == "account-not-found", name


class TestRoles:
    """The table of ``auth/policy.py`` through the door."""

    LEAST = {  # noqa: RUF012
        ("GET", ""): "viewer",
        ("POST", "/ticket"): "viewer",
        ("GET", "/members"): "viewer",
        ("PATCH", ""): "editor",
        ("POST", "/members"): "moderator",
        ("PUT", "/members/{carol}"): "moderator",
        ("DELETE", "/members/{carol}"): "moderator",
        ("DELETE", ""): "owner",
    }
    BODY = {  # noqa: RUF012
        ("PATCH", ""): {"title": "New"},
        ("POST", "/members"): {"email": "dora@example.com", "role": "viewer"},
        ("PUT", "/members/{carol}"): {"role": "participant"},
    }

    @pytest.mark.parametrize("role", list(Role))
    async def test_each_role_opens_its_doors_and_no_other(self, small_world: World, role: Role):
        anna, boris, carol, _ = [await small_world.person(n) for n in ("Anna", "Boris", "Carol", "Dora")]
        for (method, path), least in self.LEAST.items():
            document_id = await small_world.document(anna, viewer=carol)
            await anna.ask("PUT", f"/documents/{document_id}/members/{boris.id}", {"role": role})
            place = f"/documents/{document_id}{path.format(carol=carol.id)}"
            answer = await boris.ask(method, place, self.BODY.get((method, path)))
            if role.covers(Role(least)):
                assert answer.status_code in (200, 201, 204), (method, path, answer.text)
            else:
                assert (answer.status_code, slug(answer)) == (403, "forbidden"), (method, path)

    async def test_every_route_on_a_document_stands_in_this_table(self):
        routes = {
            (method, route.path.removeprefix("/documents/{document_id}").replace("account_id", "carol"))
            for route in documents_routes.router.routes
            if isinstance(route, APIRoute) and "{document_id}" in route.path
            for method in route.methods
        }
        assert routes == set(self.LEAST)

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
    async def test_nobody_promotes_themselves(self, world: World, role: Role):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, **{role.value: boris})
        for higher in (other for other in Role if other.rank > role.rank):
            answer = await boris.ask("PUT", f"/documents/{document_id}/members/{boris.id}", {"role": higher})
            assert (answer.status_code, slug(answer)) == (403, "forbidden")
        assert (await boris.ask("GET", f"/documents/{document_id}")).json()["my_role"] == role
        assert world.access_changed == []

    async def test_a_moderator_makes_no_owner_and_touches_no_equal(self, world: World):
        anna, boris, carol = [await world.person(name) for name in ("Anna", "Boris", "Carol")]
        document_id = await world.document(anna, moderator=boris)
        await anna.ask("PUT", f"/documents/{document_id}/members/{carol.id}", {"role": "moderator"})
        await world.person("Dora")
        members = f"/documents/{document_id}/members"
        given = await boris.ask("POST", members, {"email": "dora@example.com", "role": "owner"})
        assert slug(given) == "forbidden"
        for target in (carol, anna):
            lowered = await boris.ask("PUT", f"{members}/{target.id}", {"role": "viewer"})
            removed = await boris.ask("DELETE", f"{members}/{target.id}")
            assert slug(lowered) == slug(removed) == "forbidden"

    async def test_the_last_owner_can_neither_leave_nor_step_down(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, editor=boris)
        mine = f"/documents/{document_id}/members/{anna.id}"
        left, down = await anna.ask("DELETE", mine), await anna.ask("PUT", mine, {"role": "editor"})
        assert (left.status_code, slug(left)) == (down.status_code, slug(down)) == (409, "last-owner")
        await anna.ask("PUT", f"/documents/{document_id}/members/{boris.id}", {"role": "owner"})
        assert (await anna.ask("DELETE", mine)).status_code == 204
        assert (await anna.ask("GET", f"/documents/{document_id}")).status_code == 404
        assert (await boris.ask("GET", f"/documents/{document_id}")).json()["my_role"] == "owner"

    async def test_of_two_owners_leaving_at_once_one_stays(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        for _ in range(5):
            document_id = await world.document(anna, owner=boris)
            left = await asyncio.gather(
                *(
                    person.ask("DELETE", f"/documents/{document_id}/members/{person.id}")
                    for person in (anna, boris)
                )
            )
            assert sorted(answer.status_code for answer in left) == [204, 409]


class TestMembers:
    async def test_somebody_is_added_by_address(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna)
        before = await acl_version(world, document_id)
        form = {"email": "BORIS@example.com", "role": "editor"}
        added = await anna.ask("POST", f"/documents/{document_id}/members", form)
        assert added.status_code == 201
        assert (added.json()["account_id"], added.json()["role"]) == (boris.id, "editor")
        assert world.access_changed == [document_id]
        assert await acl_version(world, document_id) == before + 1
        again = await anna.ask("POST", f"/documents/{document_id}/members", form)
        assert (again.status_code, slug(again)) == (409, "already-member")
        unknown = await anna.ask("POST", f"/documents/{document_id}/members", form | {"email": "x@example.com"})
        assert (unknown.status_code, slug(unknown)) == (404, "account-not-found")
        assert world.access_changed == [document_id]

    async def test_every_change_raises_the_access_version_and_is_announced(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna)
        versions = [await acl_version(world, document_id)]
        member = f"/documents/{document_id}/members/{boris.id}"
        for ask in (
            anna.ask("PUT", member, {"role": "editor"}),
            anna.ask("PUT", member, {"role": "viewer"}),
            anna.ask("DELETE", member),
        ):
            assert (await ask).status_code in (200, 204)
            versions.append(await acl_version(world, document_id))
        assert versions == list(range(versions[0], versions[0] + 4))
        assert world.access_changed == [document_id] * 3

    async def test_the_same_role_again_changes_and_announces_nothing(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, editor=boris)
        before = await acl_version(world, document_id)
        same = await anna.ask("PUT", f"/documents/{document_id}/members/{boris.id}", {"role": "editor"})
        assert same.status_code == 200
        assert await acl_version(world, document_id) == before
        assert world.access_changed == []

    async def test_a_member_may_leave(self, world: World):
        anna, boris = await world.person("Anna"), await world.person("Boris")
        document_id = await world.document(anna, viewer=boris)
        assert (await boris.ask("DELETE", f"/documents/{document_id}/members/{boris.id}")).status_code == 204
        assert (await boris.ask("GET", f"/documents/{document_id}")).status_code == 404

    async def test_addresses_are_shown_to_those_who_manage_members_only(self, world: World):
        anna, boris, carol = [await world.person(name) for name in ("Anna", "Boris", "Carol")]
        document_id = await world.document(anna, moderator=boris, editor=carol)
        path = f"/documents/{document_id}/members"
        seen = {
            person.name: {m["name"]: m["email"] for m in (await person.ask("GET", path)).json()["items"]}
            for person in (anna, boris, carol)
        }
        everybody = {person.name: person.email for person in (anna, boris, carol)}
        assert seen["Anna"] == seen["Boris"] == everybody
        assert seen["Carol"] == {"Anna": None, "Boris": None, "Carol": carol.email}
