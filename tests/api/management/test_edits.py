"""What is Doorbell's own: mappings by id, versions, endpoint rotation, promotion, environments, key exchange,
and the audit log of all of it."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.models.types import new_id
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields
from tests.bench import Api

MAPPINGS = "/v1/sources/shop/mappings"
ENDPOINT = "/v1/sources/shop/endpoint"
DEVELOPMENT = {"environment": "development"}
TRIGGER = {"key": "welcome", "recipients": "body.user"}


@pytest.fixture(autouse=True)
async def shop(put: Put) -> None:
    await put("shop", {"name": "Shop", "environment_settings": {"development": {"mappings": []}}})


def mapping(event_type: str = "a", **changes: Any) -> dict[str, Any]:
    wanted = {"event_type": event_type, "action_type": "workflows_trigger", "action_parameters": TRIGGER}
    return {"mapping": {**wanted, **changes}}


async def added(client: httpx.AsyncClient, event_type: str = "a") -> tuple[str, str]:
    """The path and version of a new mapping."""
    answer = await client.post(MAPPINGS, params=DEVELOPMENT, json=mapping(event_type))
    assert answer.status_code == 201, answer.text
    return f"{MAPPINGS}/{answer.json()['mapping']['id']}", answer.headers["etag"]


async def audited(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit_log", params=query)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


async def test_a_mapping_by_id(client: httpx.AsyncClient, runtime: Runtime) -> None:
    path, version = await added(client)
    read = await client.get(path, params=DEVELOPMENT)
    assert read.headers["etag"] == version
    changed = await client.put(path, params=DEVELOPMENT, json=mapping("b"))
    assert changed.json()["mapping"]["event_type"] == "b"
    assert changed.headers["etag"] != version
    again = await client.put(path, params=DEVELOPMENT, json=mapping("b"))
    assert again.headers["etag"] == changed.headers["etag"], "nothing changed"
    endpoint = runtime.configuration.endpoint("development", "shop")
    assert endpoint is not None
    assert list(endpoint.mappings) == ["b"]
    listed = (await client.get(MAPPINGS, params=DEVELOPMENT)).json()["entries"]
    assert listed == [changed.json()["mapping"]]
    assert (await client.delete(path, params=DEVELOPMENT)).status_code == 204
    assert (await client.get(path, params=DEVELOPMENT)).status_code == 404
    actions = [each["action"] for each in await audited(client, resource_key="shop")]
    assert actions == ["mapping.deleted", "mapping.updated", "mapping.created", "source.created"]


async def test_two_people_do_not_overwrite_each_other(client: httpx.AsyncClient) -> None:
    path, seen = await added(client)

    async def edit(event_type: str) -> httpx.Response:
        return await client.put(
            path, params=DEVELOPMENT, json=mapping(event_type), headers={"if-match": seen}
        )

    answers = await asyncio.gather(*(edit(f"event-{number}") for number in range(6)))
    assert sorted(each.status_code for each in answers) == [200, 412, 412, 412, 412, 412]
    (won,) = (each for each in answers if each.status_code == 200)
    now_there = await client.get(path, params=DEVELOPMENT)
    assert now_there.json() == won.json()
    refused = next(each for each in answers if each.status_code == 412)
    assert refused.json()["code"] == "precondition_failed"
    assert refused.headers["etag"] == won.headers["etag"]
    stale = await client.delete(path, params=DEVELOPMENT, headers={"if-match": seen})
    assert stale.status_code == 412
    weak = await client.delete(path, params=DEVELOPMENT, headers={"if-match": f"W/{won.headers['etag']}"})
    assert weak.status_code == 412
    listed = f'"other", {won.headers["etag"]}'
    assert (await client.delete(path, params=DEVELOPMENT, headers={"if-match": listed})).status_code == 204


async def test_people_who_edit_different_mappings_do_not_meet(client: httpx.AsyncClient) -> None:
    (first, version), (second, other) = await added(client, "a"), await added(client, "b")
    answers = await asyncio.gather(
        client.put(first, params=DEVELOPMENT, json=mapping("c"), headers={"if-match": version}),
        client.put(second, params=DEVELOPMENT, json=mapping("d"), headers={"if-match": other}),
    )
    assert [each.status_code for each in answers] == [200, 200]


async def test_a_source_as_it_was_read(client: httpx.AsyncClient, put: Put) -> None:
    path = "/v1/sources/shop"
    seen = (await client.get(path, params=DEVELOPMENT)).headers["etag"]
    assert (await client.get(path, params={"environment": "production"})).headers["etag"] == seen
    body = {"source": {"name": "Mine"}}
    saved = await client.put(path, params=DEVELOPMENT, json=body, headers={"if-match": seen})
    assert saved.status_code == 200
    assert saved.headers["etag"] == (await client.get(path, params=DEVELOPMENT)).headers["etag"] != seen
    stale = await client.put(
        path, params=DEVELOPMENT, json={"source": {"name": "Theirs"}}, headers={"if-match": seen}
    )
    assert stale.status_code == 412
    await added(client)
    late = await client.put(path, params=DEVELOPMENT, json=body, headers={"if-match": saved.headers["etag"]})
    assert late.status_code == 412, "a mapping is part of its source"
    new = await client.put("/v1/sources/new", params=DEVELOPMENT, json=body, headers={"if-match": "*"})
    assert new.status_code == 412
    assert (await put("shop", {"name": "Mine"})).status_code == 200


async def test_mappings_that_are_refused(client: httpx.AsyncClient) -> None:
    wrong = {"mapping": {"action_type": "pigeon", "active": 1, "action_parameters": {"key": "a..b"}}}
    assert fields(await client.post(MAPPINGS, json=wrong)) == [
        "environment",
        "mapping.event_type",
        "mapping.action_type",
        "mapping.active",
    ]
    bad = mapping(action_parameters={"recipients": "a..b", "colour": "red"})
    assert sorted(fields(await client.post(MAPPINGS, params=DEVELOPMENT, json=bad))) == [
        "mapping.action_parameters.colour",
        "mapping.action_parameters.key",
        "mapping.action_parameters.recipients",
    ]
    path, _ = await added(client)
    assert fields(await client.post(MAPPINGS, params=DEVELOPMENT, json=mapping())) == ["mapping"]
    other, _ = await added(client, "b")
    assert fields(await client.put(other, params=DEVELOPMENT, json=mapping("a"))) == ["mapping"]
    assert (await client.get(path, params={"environment": "production"})).status_code == 404
    assert (await client.delete(f"{MAPPINGS}/{new_id()}", params=DEVELOPMENT)).status_code == 404


async def test_rotation_with_overlap(client: httpx.AsyncClient, runtime: Runtime) -> None:
    def served(url: str) -> bool:
        return runtime.configuration.by_token(url.rpartition("/")[2]) is not None

    before = (await client.get(ENDPOINT, params=DEVELOPMENT)).json()["endpoint"]
    assert before["replaced"] == []
    rotated = await client.post(
        f"{ENDPOINT}/rotate", params=DEVELOPMENT, json={"rotation": {"overlap_seconds": 60}}
    )
    endpoint = rotated.json()["endpoint"]
    assert endpoint["url"] != before["url"]
    assert [each["url"] for each in endpoint["replaced"]] == [before["url"]]
    assert served(endpoint["url"])
    assert served(before["url"])
    source = (await client.get("/v1/sources/shop", params=DEVELOPMENT)).json()
    assert source["environment_settings"]["development"]["settings"]["endpoint"] == endpoint["url"]
    # Time passes.
    async with runtime.engine.begin() as connection:
        moved = text("UPDATE replaced_endpoint_tokens SET expires_at = expires_at - :time")
        await connection.execute(moved, {"time": timedelta(seconds=61)})
    await runtime.configuration.refresh()
    assert not served(before["url"])
    assert (await client.get(ENDPOINT, params=DEVELOPMENT)).json()["endpoint"]["replaced"] == []
    await client.post(f"{ENDPOINT}/rotate", params=DEVELOPMENT)
    assert served(endpoint["url"])
    assert (await client.delete(f"{ENDPOINT}/replaced", params=DEVELOPMENT)).status_code == 204
    assert not served(endpoint["url"])
    last = (await client.get(ENDPOINT, params=DEVELOPMENT)).json()["endpoint"]["url"]
    await client.post(f"{ENDPOINT}/rotate", params=DEVELOPMENT, json={"rotation": {"overlap_seconds": 0}})
    assert not served(last)
    text_of_log = (await client.get("/v1/audit_log")).text
    assert "endpoint.rotated" in text_of_log
    for url in (before["url"], endpoint["url"], last):
        assert url.rpartition("/")[2] not in text_of_log


async def test_rotations_that_are_refused(client: httpx.AsyncClient) -> None:
    wrong = {"rotation": {"overlap_seconds": -1, "x": 1}}
    assert fields(await client.post(f"{ENDPOINT}/rotate", params=DEVELOPMENT, json=wrong)) == [
        "rotation.overlap_seconds",
        "rotation.x",
    ]
    assert (await client.post("/v1/sources/none/endpoint/rotate", params=DEVELOPMENT)).status_code == 404


async def test_promotion(client: httpx.AsyncClient, put: Put) -> None:
    def settled(answer: httpx.Response) -> dict[str, Any]:
        found: dict[str, Any] = answer.json()["environment_settings"]
        return found

    wanted = {
        "settings": {"event_type_path": "body.kind", "idempotency_window_seconds": 60},
        "mappings": [mapping("a")["mapping"], mapping("b", active=False)["mapping"]],
    }
    other = {"mappings": [mapping("a")["mapping"], mapping("gone")["mapping"]]}
    answer = await put(
        "shop", {"name": "Shop", "environment_settings": {"development": wanted, "production": other}}
    )
    assert answer.status_code == 200, answer.text
    before = settled(await client.get("/v1/sources/shop", params=DEVELOPMENT))
    asked = {"from": "development", "to": "production"}
    path = "/v1/sources/shop/promote"
    look = await client.post(path, json={"promotion": {**asked, "dry_run": True}})
    assert look.status_code == 200, look.text
    shown = look.json()["promotion"]
    assert shown["applied"] is False
    assert shown["differences"] == [
        {"field": "settings.event_type_path", "before": "body.type", "after": "body.kind"},
        {"field": "settings.idempotency_window_seconds", "before": 86400, "after": 60},
        {"field": "mappings", "before": {**mapping("gone")["mapping"], "active": True}, "after": None},
        {"field": "mappings", "before": None, "after": mapping("b", active=False)["mapping"]},
    ]
    assert settled(await client.get("/v1/sources/shop", params=DEVELOPMENT)) == before
    version = {"if-match": look.headers["etag"]}
    done = await client.post(path, json={"promotion": asked}, headers=version)
    assert done.json()["promotion"] == {**shown, "applied": True}
    after = settled(await client.get("/v1/sources/shop", params=DEVELOPMENT))
    assert after["development"] == before["development"]
    for name in ("event_type_path", "idempotency_window_seconds"):
        assert after["production"]["settings"][name] == wanted["settings"][name]  # type: ignore[index]
    assert after["production"]["settings"]["endpoint"] == before["production"]["settings"]["endpoint"]
    assert [(each["event_type"], each["active"]) for each in after["production"]["mappings"]] == [
        ("a", True),
        ("b", False),
    ]
    assert after["production"]["mappings"][0]["id"] == before["production"]["mappings"][0]["id"]
    again = await client.post(path, json={"promotion": {**asked, "dry_run": True}})
    assert again.json()["promotion"]["differences"] == []
    assert (await client.post(path, json={"promotion": asked}, headers=version)).status_code == 412
    (entry,) = [each for each in await audited(client) if each["action"] == "source.promoted"]
    assert entry["environment"] == "production"
    assert entry["after"]["differences"] == shown["differences"]


async def test_promotions_that_are_refused(client: httpx.AsyncClient) -> None:
    path = "/v1/sources/shop/promote"
    answer = await client.post(path, json={"promotion": {"from": "staging", "to": "staging"}})
    assert fields(answer) == ["promotion.from", "promotion.to", "promotion.to"]
    assert fields(await client.post(path, json={"promotion": {"to": 5}})) == [
        "promotion.from",
        "promotion.to",
    ]
    missing = await client.post(
        "/v1/sources/none/promote", json={"promotion": {"from": "development", "to": "production"}}
    )
    assert missing.status_code == 404


async def test_environments_come_and_go(client: httpx.AsyncClient, runtime: Runtime) -> None:
    made = await client.post(
        "/v1/environments", json={"environment": {"slug": "staging", "label_color": "#00ff00"}}
    )
    assert made.status_code == 201, made.text
    environment = made.json()["environment"]
    assert (environment["name"], environment["order"], environment["owner"]) == ("staging", 2, "user")
    assert environment["is_production"] is False
    source = (await client.get("/v1/sources/shop", params={"environment": "staging"})).json()
    url = source["environment_settings"]["staging"]["settings"]["endpoint"]
    assert runtime.configuration.by_token(url.rpartition("/")[2]) is not None
    path = "/v1/environments/staging"
    changed = await client.put(
        path, json={"environment": {"name": "Staging", "order": 0, "is_production": True}}
    )
    assert changed.json()["environment"] | {"updated_at": None} == {
        **environment,
        "name": "Staging",
        "order": 0,
        "is_production": True,
        "updated_at": None,
    }
    order = [each["slug"] for each in (await client.get("/v1/environments")).json()["entries"]]
    assert order == ["development", "staging", "production"]
    waits = text(
        "INSERT INTO events (id, environment, source_key, status, verification_status, received_at) "
        "VALUES (uuidv7(), 'staging', 'shop', 'received', 'enforced:verified', now())"
    )
    async with runtime.engine.begin() as connection:
        await connection.execute(waits)
    assert (await client.delete(path)).status_code == 409
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE events SET status = 'succeeded'"))
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert runtime.configuration.by_token(url.rpartition("/")[2]) is None
    again = await client.post("/v1/environments", json={"environment": {"slug": "staging"}})
    assert fields(again) == ["environment.slug"]
    actions = [each["action"] for each in await audited(client, resource_type="environment")]
    assert actions == ["environment.deleted", "environment.updated", "environment.created"]


async def test_environments_that_are_refused(client: httpx.AsyncClient) -> None:
    wrong = {"slug": 1, "name": " ", "order": -1, "label_color": "red", "owner": "system"}
    answer = await client.post("/v1/environments", json={"environment": wrong})
    assert fields(answer) == [
        "environment.name",
        "environment.order",
        "environment.label_color",
        "environment.slug",
        "environment.owner",
    ]
    for slug in ("Not/one", "", "x" * 256, "production"):
        answer = await client.post("/v1/environments", json={"environment": {"slug": slug}})
        assert fields(answer) == ["environment.slug"], slug
    assert fields(await client.put("/v1/environments/production", json={"environment": {"slug": "x"}})) == [
        "environment.slug"
    ]
    assert (await client.delete("/v1/environments/production")).status_code == 409
    assert (await client.delete("/v1/environments/none")).status_code == 404


async def test_key_exchange(client: httpx.AsyncClient) -> None:
    path = "/v1/api_keys/exchange"
    assert fields(await client.post(path)) == ["environment"]
    keys = [(await client.post(path, params=DEVELOPMENT)).json() for _ in range(12)]
    assert all(each.keys() == {"api_key"} and each["api_key"].startswith("sk_") for each in keys)
    assert len({each["api_key"] for each in keys}) == 1
    [issued] = (await client.get("/v1/environments/development/keys")).json()["entries"]
    assert (issued["name"], issued["revoked_at"]) == ("exchanged by bootstrap", None)
    await client.delete(f"/v1/environments/development/keys/{issued['id']}")
    assert (await client.post(path, params=DEVELOPMENT)).json() not in keys
    issue = {"service_token": {"name": "reader", "scope": "read"}}
    token = (await client.post("/v1/service_tokens", json=issue)).json()["service_token"]["token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await client.post(path, params=DEVELOPMENT, headers=headers)).status_code == 403


async def test_an_exchanged_key_ends_with_its_token(api: Api) -> None:
    issue = {"service_token": {"name": "ci", "scope": "write"}}
    token = (await api.post("/v1/service_tokens", json=issue)).json()["service_token"]
    other = (await api.post("/v1/service_tokens", json=issue)).json()["service_token"]
    headers = {"authorization": f"Bearer {token['token']}"}
    path = "/v1/api_keys/exchange"
    key, of_other, elsewhere = [
        (await api.post(path, params={"environment": slug}, headers=who)).json()["api_key"]
        for slug, who in (
            ("development", headers),
            ("development", {"authorization": f"Bearer {other['token']}"}),
            ("production", headers),
        )
    ]
    assert len({key, of_other, elsewhere}) == 3

    async def opens(each: str) -> bool:
        answer = await api.get("/v1/messages", headers={"authorization": f"Bearer {each}"})
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    assert await opens(key)
    assert await opens(elsewhere)
    assert (await api.delete(f"/v1/service_tokens/{token['id']}")).status_code in (200, 204)
    assert not await opens(key)
    assert not await opens(elsewhere)
    assert await opens(of_other)


async def test_the_audit_log(client: httpx.AsyncClient, put: Put) -> None:
    issue = {"service_token": {"name": "ci", "scope": "write"}}
    token = (await client.post("/v1/service_tokens", json=issue)).json()["service_token"]["token"]
    headers = {"authorization": f"Bearer {token}"}
    secret = {"secret": {"value": "open-sesame"}}
    added = await client.post("/v1/sources/shop/secrets", params=DEVELOPMENT, json=secret, headers=headers)
    assert added.status_code == 201, added.text
    destination = {"destination": {"url": "https://api.knock.app", "api_key": "sk_hidden", "verify": False}}
    await client.put("/v1/environments/development/destination", json=destination)
    await put("shop", {"name": "Renamed"})
    await put("shop", {"name": "Renamed"})
    whole = (await client.get("/v1/audit_log")).text
    for hidden in ("open-sesame", "sk_hidden", token):
        assert hidden not in whole
    renamed, destined, *_ = entries = await audited(client)
    assert [each["action"] for each in entries] == [
        "source.updated",
        "destination.updated",
        "signing_secret.added",
        "service_token.issued",
        "source.created",
    ]
    assert (renamed["before"]["name"], renamed["after"]["name"]) == ("Shop", "Renamed")
    assert "endpoint_token" not in renamed["after"]["environment_settings"]["development"]["settings"]
    assert destined["after"]["has_destination_key"] is True
    assert entries[2]["actor"] == {"name": "ci", "scope": "write"}
    assert renamed["actor"] == {"name": "bootstrap", "scope": "admin"}
    assert [each["action"] for each in await audited(client, actor="ci")] == ["signing_secret.added"]
    assert await audited(client, ending_at="2020-01-01T00:00:00Z") == []
    page = (await client.get("/v1/audit_log?limit=2")).json()
    rest = (await client.get(f"/v1/audit_log?after={page['page_info']['after']}")).json()
    assert page["entries"] + rest["entries"] == entries
    assert (await client.get("/v1/audit_log", headers=headers)).status_code == 403


async def test_changes_of_variables_are_in_the_audit_log(client: httpx.AsyncClient) -> None:
    async def write(key: str, **variable: Any) -> None:
        answer = await client.put(f"/v1/variables/{key}", json={"variable": variable})
        assert answer.status_code == 200, answer.text

    await write("HIDDEN", type="secret", value="hunter2", environment_values={"production": "hunter3"})
    await write("HIDDEN", value="hunter4")
    await write("HIDDEN", value="hunter4")
    await write("OPEN", value="a")
    assert (await client.delete("/v1/variables/OPEN")).status_code == 204
    answer = await client.get("/v1/audit_log?resource_type=variable")
    assert "hunter" not in answer.text
    deleted, created, updated, first = answer.json()["entries"]
    assert [each["action"] for each in (deleted, created, updated, first)] == [
        "variable.deleted", "variable.created", "variable.updated", "variable.created",
    ]  # fmt: skip
    assert (deleted["before"]["value"], deleted["after"]) == ("a", None)
    assert (first["after"]["value"], first["after"]["environment_values"]) == (
        "[redacted]",
        {"production": "[redacted]"},
    )
    assert (updated["before"]["value"], updated["after"]["value"]) == ("[redacted]", "[redacted] (new)")
    assert updated["after"]["environment_values"] == {"production": "[redacted]"}


async def test_changes_of_workflows_are_in_the_audit_log(client: httpx.AsyncClient) -> None:
    path = "/v1/workflows/order-shipped"

    async def write(name: str, **workflow: Any) -> None:
        body = {"workflow": {"name": name, "steps": [], **workflow}}
        answer = await client.put(path, params=DEVELOPMENT, json=body)
        assert answer.status_code == 200, answer.text

    await write("Shipped", signing_secret="whsec_b3Blbi1zZXNhbWUtMQ==")
    await write("Sent", signing_secret="whsec_b3Blbi1zZXNhbWUtMg==")
    await write("Sent")
    assert (await client.delete(path, params=DEVELOPMENT)).status_code == 204
    answer = await client.get("/v1/audit_log?resource_type=workflow&environment=development")
    assert "whsec_" not in answer.text
    deleted, updated, created = answer.json()["entries"]
    assert [each["action"] for each in (deleted, updated, created)] == [
        "workflow.deleted", "workflow.updated", "workflow.created",
    ]  # fmt: skip
    assert created["resource"] == {"type": "workflow", "key": "order-shipped"}
    assert (created["before"], created["after"]["signing_secret"]) == (None, "[redacted]")
    assert (updated["before"]["name"], updated["after"]["name"]) == ("Shipped", "Sent")
    assert updated["after"]["signing_secret"] == "[redacted] (new)"
    assert (deleted["before"]["name"], deleted["after"]) == ("Sent", None)


async def test_an_unknown_environment_is_named_with_everything_else_that_is_wrong(
    client: httpx.AsyncClient,
) -> None:
    for method, path, body, others in (
        ("POST", "/v1/sources/shop/secrets", {"secret": {"value": 1}}, {"secret.value"}),
        ("POST", "/v1/sources/shop/mappings", {}, {"mapping"}),
        ("GET", "/v1/logs?limit=0&status=odd", None, {"limit", "status"}),
        ("GET", "/v1/variables?limit=x", None, {"limit"}),
    ):
        separator = "&" if "?" in path else "?"
        answer = await client.request(method, f"{path}{separator}environment=staging", json=body)
        assert set(fields(answer)) == {"environment", *others}, path
        assert "development" in answer.text, "it says which there are"
    assert fields(await client.get("/v1/logs")) == ["environment"]


async def test_skip_older_is_kept_until_it_is_named(client: httpx.AsyncClient) -> None:
    """As Doorbell's own field: a request in Knock's shape leaves it as it is, null turns it off."""
    setting = {"action_type": "users_identify", "action_parameters": {"id": "body.user"}}
    answer = await client.post(MAPPINGS, params=DEVELOPMENT, json=mapping(skip_older=True, **setting))
    assert (answer.status_code, answer.json()["mapping"]["skip_older"]) == (201, True)
    path = f"{MAPPINGS}/{answer.json()['mapping']['id']}"
    plain = await client.put(path, params=DEVELOPMENT, json=mapping("b", **setting))
    assert plain.json()["mapping"]["skip_older"] is True
    source = {
        "name": "Shop",
        "environment_settings": {"development": {"mappings": [mapping("b", **setting)["mapping"]]}},
    }
    await client.put("/v1/sources/shop", params=DEVELOPMENT, json={"source": source})
    assert (await client.get(path, params=DEVELOPMENT)).json()["mapping"]["skip_older"] is True

    promoted = await client.post(
        "/v1/sources/shop/promote",
        json={"promotion": {"from": "development", "to": "production", "dry_run": False}},
    )
    assert promoted.status_code == 200, promoted.text
    there = (await client.get(MAPPINGS, params={"environment": "production"})).json()["entries"]
    assert [each["skip_older"] for each in there] == [True]

    off = await client.put(path, params=DEVELOPMENT, json=mapping("b", skip_older=None, **setting))
    assert off.json()["mapping"]["skip_older"] is False
    entry = (await audited(client, resource_key="shop"))[0]
    assert (entry["before"]["skip_older"], entry["after"]["skip_older"]) == (True, False)
    refused = await client.post(MAPPINGS, params=DEVELOPMENT, json=mapping("c", skip_older=True))
    assert (refused.status_code, fields(refused)) == (422, ["mapping.skip_older"])
    assert "workflows_trigger does not" in refused.text


async def test_a_new_source_skips_older_events_where_the_payload_is_whole(put: Put) -> None:
    source = await put("bills", {"name": "Bills", "preconfigured_provider": "stripe"})
    mappings = source.json()["source"]["environment_settings"]["development"]["mappings"]
    assert {each["action_type"]: each["skip_older"] for each in mappings} == {
        "users_identify": True,
        "workflows_trigger": False,
    }
