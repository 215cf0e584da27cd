"""Configuration as code, over HTTP against the real application: pull, edit, diff, push, pull again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console

from app.cli.configuration import diff_sources, pull_sources, push_sources
from app.cli.management import ManagementClient
from app.cli.source_files import FOLDER
from app.cli.strict_yaml import YAMLError, read_yaml
from app.core.errors import CommandError
from tests.bench import Api
from tests.conftest import ADMIN_TOKEN

Command = Callable[..., Awaitable[tuple[int, str]]]
WHERE = {"environment": "development"}


@pytest.fixture
def command(api: Api) -> Command:
    """Run one of the commands against the application; its exit code and what it said."""

    async def run(
        function: Callable[..., int], directory: Path, token: str = ADMIN_TOKEN, **options: Any
    ) -> tuple[int, str]:
        said = StringIO()

        def call() -> int:
            headers = {"authorization": f"Bearer {token}"}
            with httpx.Client(base_url=api.base_url, headers=headers, timeout=60) as http:
                return function(ManagementClient(http), directory, Console(file=said, width=200), **options)

        return await asyncio.to_thread(call), said.getvalue()

    return run


async def connect(api: Api, key: str, **source: Any) -> None:
    answer = await api.put(f"/v1/sources/{key}", params=WHERE, json={"source": {"name": key, **source}})
    assert answer.status_code == 200, answer.text


def load(directory: Path, key: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((directory / FOLDER / f"{key}.yaml").read_text())
    return content


def save(directory: Path, key: str, content: object) -> None:
    path = directory / FOLDER / f"{key}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


async def test_round_trip_loses_nothing(api: Api, command: Command, tmp_path: Path) -> None:
    """Odd texts, constants, inactive mappings, nulls: pulled, pushed to themselves, all is the same."""
    await connect(api, "stripe", preconfigured_provider="stripe")
    odd = {
        "data": {
            "value": {"when": "2026-01-01", "yes": "no", "number": "1_0", "text": "two\nlines\n  kept \n"}
        },
        "key": "welcome",
        "recipients": [{"id": "body.id", "name": {"value": None}}, {"value": "ü: #"}],
    }
    mappings = [
        {"event_type": "on", "action_type": "workflows_trigger", "action_parameters": odd, "active": False}
    ]
    await connect(
        api,
        "my-app",
        description="Ends with spaces  \nand has: colons",
        environment_settings={
            "production": {"mappings": mappings, "settings": {"timestamp_path": 'body."a.b".c'}}
        },
    )
    before = (await api.get("/v1/sources", params={"include": "environment_settings"})).json()

    assert (await command(pull_sources, tmp_path, confirmed=True))[0] == 0
    written = {path.name: path.read_text() for path in (tmp_path / FOLDER).iterdir()}
    assert sorted(written) == ["my-app.yaml", "stripe.yaml"]
    assert "endpoint" not in "".join(written.values())
    assert (await command(diff_sources, tmp_path, check=True)) == (0, "No source differs.\n")
    assert (await command(push_sources, tmp_path, confirmed=True)) == (
        0,
        "No source differs.\n",
    )
    assert (await command(pull_sources, tmp_path, confirmed=True)) == (
        0,
        "The files are what the server has.\n",
    )
    after = (await api.get("/v1/sources", params={"include": "environment_settings"})).json()
    assert after == before


async def test_failure_alerts_are_part_of_the_files(api: Api, command: Command, tmp_path: Path) -> None:
    alert = {"failed_share": 0.5, "stuck_after_minutes": 30, "emails": ["ops@example.com"]}
    await connect(api, "shop", environment_settings={"production": {"settings": {"failure_alert": alert}}})
    await command(pull_sources, tmp_path, confirmed=True)
    content = load(tmp_path, "shop")
    kept = content["environments"]["production"]["settings"]["failure_alert"]
    whole = {"window_minutes": 15, "failed_events": None, "webhook_url": None, **alert}
    assert kept == whole
    assert content["environments"]["development"]["settings"]["failure_alert"] is None
    assert (await command(diff_sources, tmp_path, check=True)) == (0, "No source differs.\n")

    kept["window_minutes"] = 60
    save(tmp_path, "shop", content)
    code, said = await command(push_sources, tmp_path, confirmed=True)
    assert code == 0
    assert "+        window_minutes: 60" in said
    promotion = {"from": "production", "to": "development", "dry_run": True}
    answer = await api.post("/v1/sources/shop/promote", json={"promotion": promotion})
    assert answer.json()["promotion"]["differences"] == [], "each environment has its own"

    kept["emails"] = ["nobody"]
    save(tmp_path, "shop", content)
    with pytest.raises(
        CommandError, match=r"production\.settings\.failure_alert\.emails\.0: 'nobody' is not an email"
    ):
        await command(push_sources, tmp_path, confirmed=True)
    del content["environments"]["production"]["settings"]["failure_alert"]
    save(tmp_path, "shop", content)
    assert (await command(push_sources, tmp_path, confirmed=True)) == (
        0,
        "No source differs.\n",
    )


async def test_files_of_ones_own_are_not_replaced_unasked(api: Api, command: Command, tmp_path: Path) -> None:
    await connect(api, "shop")
    assert (await command(pull_sources, tmp_path, confirmed=False))[0] == 0, "there is nothing to lose"
    save(tmp_path, "shop", {**load(tmp_path, "shop"), "name": "Edited"})
    save(tmp_path, "mine", {"name": "Not pushed yet", "environments": {}})
    with pytest.raises(CommandError, match="nobody to ask"):
        await command(pull_sources, tmp_path, confirmed=False)
    assert load(tmp_path, "shop")["name"] == "Edited"
    assert load(tmp_path, "mine")["name"] == "Not pushed yet"
    _, said = await command(pull_sources, tmp_path, confirmed=True)
    folder = tmp_path / FOLDER
    assert said == f"wrote {folder / 'shop.yaml'}\nremoved {folder / 'mine.yaml'}\n"
    assert load(tmp_path, "shop")["name"] == "shop"


async def test_a_script_of_another_system_is_the_same_each_time(
    api: Api, command: Command, tmp_path: Path
) -> None:
    script = "function main() {\r\n  return { verified: true };\r\n}"
    settings = {"preprocess_script": {"language": "javascript", "source": script}}
    await connect(api, "shop", environment_settings={"development": {"settings": settings}})
    await command(pull_sources, tmp_path, confirmed=True)
    path = tmp_path / FOLDER / "shop.development.js"
    assert path.read_bytes() == script.encode()
    _, said = await command(pull_sources, tmp_path, confirmed=True)
    assert path.name not in said
    code, said = await command(diff_sources, tmp_path, check=True)
    assert code == 0, said


async def test_files_make_an_empty_server_the_same(api: Api, command: Command, tmp_path: Path) -> None:
    content = {
        "name": "My app",
        "provider": "custom_http",
        "environments": {
            "development": {
                "settings": {"event_type_path": "body.kind"},
                "mappings": [
                    {
                        "event_type": "joined",
                        "action_type": "users_identify",
                        "action_parameters": {"id": "body.user"},
                    }
                ],
            }
        },
    }
    save(tmp_path, "my-app", content)
    code, said = await command(diff_sources, tmp_path, check=True)
    assert code == 1
    assert "my-app: is new" in said
    assert "event_type_path: body.kind" in said
    assert (await api.get("/v1/sources")).json()["entries"] == []

    code, said = await command(push_sources, tmp_path, confirmed=True)
    assert (code, said.splitlines()[-1]) == (0, "created my-app")
    source = (await api.get("/v1/sources/my-app", params=WHERE)).json()
    there = source["environment_settings"]["development"]
    assert there["settings"]["event_type_path"] == "body.kind"
    assert [each["event_type"] for each in there["mappings"]] == ["joined"]
    assert (await command(diff_sources, tmp_path, check=True))[0] == 0


async def test_push_changes_what_differs_and_leaves_the_rest(
    api: Api, command: Command, tmp_path: Path
) -> None:
    await connect(api, "stripe", preconfigured_provider="stripe")
    await connect(api, "other")
    await command(pull_sources, tmp_path, confirmed=True)
    (tmp_path / FOLDER / "other.yaml").unlink()
    content = load(tmp_path, "stripe")
    content["name"] = "Payments"
    del content["environments"]["production"]
    content["environments"]["development"]["mappings"].pop()
    save(tmp_path, "stripe", content)

    code, said = await command(push_sources, tmp_path, confirmed=True)
    assert code == 0
    assert "other: only on the server, left as it is" in said
    assert "-name: stripe\n+name: Payments\n" in said
    source = (await api.get("/v1/sources/stripe", params=WHERE)).json()
    assert source["name"] == "Payments"
    assert len(source["environment_settings"]["development"]["mappings"]) == 2
    assert len(source["environment_settings"]["production"]["mappings"]) == 3
    assert (await api.get("/v1/sources/other", params=WHERE)).status_code == 200


async def test_push_asks_and_does_nothing_when_nobody_can_answer(
    api: Api, command: Command, tmp_path: Path
) -> None:
    save(tmp_path, "my-app", {"name": "My app", "provider": "custom_http"})
    with pytest.raises(CommandError, match="give --yes"):
        await command(push_sources, tmp_path, confirmed=False)
    assert (await api.get("/v1/sources")).json()["entries"] == []


async def test_environments_that_the_token_does_not_open_are_left_out(
    api: Api, command: Command, tmp_path: Path
) -> None:
    asked = {"name": "dev", "scope": "write", "environments": ["development"]}
    issued = await api.post("/v1/service_tokens", json={"service_token": asked})
    token = issued.json()["service_token"]["token"]
    await connect(api, "shop")
    await connect(api, "stripe", preconfigured_provider="stripe")
    await command(pull_sources, tmp_path, confirmed=True)
    unseen = "not looked at, the token does not open them: production\n"
    same = (0, f"{unseen}No source differs.\n")
    assert await command(diff_sources, tmp_path, token, check=True) == same

    content = load(tmp_path, "shop")
    content["environments"]["production"]["settings"]["event_type_path"] = "body.kind"
    save(tmp_path, "shop", content)
    assert await command(push_sources, tmp_path, token, confirmed=True) == same
    await command(pull_sources, tmp_path, token, confirmed=True)
    assert load(tmp_path, "shop") == content

    content["environments"]["development"]["settings"]["event_type_path"] = "body.kind"
    save(tmp_path, "shop", content)
    _, lines = await command(diff_sources, tmp_path, token, check=True, as_json=True)
    found = [json.loads(line) for line in lines.splitlines()]
    assert [(each["change"], each["not_looked_at"]) for each in found] == [
        ("change", ["production"]),
        ("none", ["production"]),
    ]
    code, said = await command(push_sources, tmp_path, token, confirmed=True)
    assert (code, said.startswith(unseen)) == (0, True)
    assert said.endswith("1 of 2 sources differ.\nchanged shop\n")
    source = (await api.get("/v1/sources/shop", params=WHERE)).json()["environment_settings"]
    paths = {slug: each["settings"]["event_type_path"] for slug, each in source.items()}
    assert paths["development"] == "body.kind"
    assert paths["production"] != "body.kind"


async def test_what_the_server_refuses_names_the_fields(api: Api, command: Command, tmp_path: Path) -> None:
    """By file, and by the place in it: mappings are counted as the file has them."""
    right = {"event_type": "z", "action_type": "users_delete", "action_parameters": {"id": "body.id"}}
    wrong = {"event_type": "a", "action_type": "users_greet"}
    environments = {"development": {"settings": {"event_type_path": "body..x"}, "mappings": [right, wrong]}}
    save(tmp_path, "my-app", {"name": "My app", "provider": "custom_http", "environments": environments})
    with pytest.raises(CommandError) as caught:
        await command(push_sources, tmp_path, confirmed=True)
    said = str(caught.value)
    assert "source.environment_settings.development.settings.event_type_path" in said
    assert "source.environment_settings.development.mappings.1.action_type" in said
    assert said.startswith(f"{tmp_path / FOLDER}/my-app.yaml: 422 ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "my-app.yaml"),
        ("name: a\nname: b\nprovider: stripe", "the key name stands here twice\n  in "),
        ("name: a\nprovider: .inf", ".inf is no number of JSON"),
        ("name: a\nprovider: stripe\nenvironments: {1: {}}", "my-app.yaml: Dict key must be str"),
        ("provider: stripe", "name is required"),
        ("name: a\nprovider: stripe\nenvironment: {}", "environment: no such field"),
        ("name: a\nprovider: stripe\nenvironments: {development: {mapping: []}}", "mapping: no such field"),
        (
            "name: a\nprovider: stripe\nenvironments: {development: {mappings: [{event_type: a}]}}",
            "environments.development.mappings.0: action_type is required",
        ),
        (
            (
                "name: a\nprovider: stripe\nenvironments: {development: {settings: {preprocess_script: "
                "../x.js}}}"
            ),
            "there is no file ../x.js beside my-app.yaml",
        ),
    ],
    ids=[
        "not yaml",
        "key twice",
        "no number",
        "no text as key",
        "no name",
        "unknown",
        "unknown inside",
        "half a mapping",
        "script elsewhere",
    ],
)
async def test_files_that_are_written_wrong_are_named(
    command: Command, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "my-app.yaml").write_text(text)
    with pytest.raises(CommandError) as caught:
        await command(diff_sources, tmp_path, check=False)
    assert message in str(caught.value)


async def test_a_file_with_another_ending_is_not_passed_over(command: Command, tmp_path: Path) -> None:
    save(tmp_path, "my-app", {"name": "My app", "provider": "custom_http"})
    (tmp_path / FOLDER / "other.yml").touch()
    with pytest.raises(CommandError, match=r"other\.yml: is not read: name it other\.yaml"):
        await command(diff_sources, tmp_path, check=False)


async def test_a_directory_that_cannot_be_written_is_named(
    api: Api, command: Command, tmp_path: Path
) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(CommandError, match=f"cannot write {tmp_path / FOLDER}: File exists"):
        await command(pull_sources, tmp_path, confirmed=True)


async def test_an_empty_directory_says_how_to_begin(command: Command, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="begin with `doorbell pull"):
        await command(push_sources, tmp_path, confirmed=True)


def test_what_aliases_stand_for_is_bounded() -> None:
    """Nine levels of nine aliases are 400 million values in 300 bytes."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(YAMLError, match="aliases"):
        read_yaml(StringIO("\n".join(levels)))
    assert read_yaml(StringIO("a: &a {x: 1}\nb: *a\n")) == {"a": {"x": 1}, "b": {"x": 1}}
