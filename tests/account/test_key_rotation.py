"""The rotation of DOORBELL_SECRET_KEY: every encrypted column, in batches, beside running processes."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import LargeBinary, text
from sqlmodel import SQLModel
from typer.testing import CliRunner

from app.account import key_rotation
from app.account.key_rotation import ENCRYPTED, Tally, rotate_keys
from app.account.tokens import issue_key
from app.cli.commands import cli
from app.core.errors import Permanent
from app.core.secrets import SecretBox
from app.directory.requests import outgoing
from app.directory.run_log import NewMessage, RunLog
from app.models.status import StepStatus
from tests.bench import Bench

NEW = "n" * 32
# Bytes that are stored as they come.
PLAIN = {("event_payloads", "body")}
DEFINITION = {
    "name": "Rings",
    "steps": [
        {"ref": "call", "type": "http_fetch", "settings": {"method": "post", "url": "https://example.com/"}}
    ],
}


def test_every_column_of_bytes_is_declared() -> None:
    """A new column of bytes is encrypted and declared, or it is known to be plain."""
    declared = {(model.__tablename__, name) for model, name in ENCRYPTED}
    columns = {
        (table.name, column.name)
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert columns - PLAIN == declared


def keys(bench: Bench, *more: str) -> SecretBox:
    """A box with these keys before the one that everything was written under."""
    assert bench.runtime.settings.secret_key is not None
    return SecretBox(SecretStr(",".join((*more, bench.runtime.settings.secret_key.get_secret_value()))))


async def rotated(bench: Bench, box: SecretBox, **options: Any) -> dict[str, Tally]:
    return {each.column: each async for each in rotate_keys(bench.runtime.engine, box, **options)}


async def ciphertexts(bench: Bench) -> dict[str, list[bytes]]:
    """Every encrypted value that there is, by column."""
    found = {}
    for model, name in ENCRYPTED:
        table = str(model.__tablename__)
        rows = await bench.rows(f"SELECT {name} AS value FROM {table} WHERE {name} IS NOT NULL")
        found[f"{table}.{name}"] = [row["value"] for row in rows]
    return found


async def write_one_of_each(bench: Bench) -> None:
    """Something encrypted in every column, written as people and senders write it."""
    here = {"environment": bench.environment}
    source = await bench.source("http", secret=None, enforce_verification=False)
    (await source.post(b'{"type": "a"}', {"authorization": "Bearer sent-secret"})).raise_for_status()
    stripe = await bench.source("stripe")
    signing = {"secret": {"value": "whsec_c2VjcmV0LW9mLWF0LWxlYXN0LTI0LWJ5dGVz"}}
    alerts = f"/v1/sources/{stripe.key}/alerts/secret"
    (await bench.api.put(alerts, params=here, json=signing)).raise_for_status()
    erasure = {"erasure": {"user_id": "eve", "search": ["eve@example.com"]}}
    (await bench.api.post("/v1/erasures", params=here, json=erasure)).raise_for_status()
    await write_secrets_of_a_workflow(bench)
    await bench.use_destination("http://127.0.0.1:9")
    variable = {"type": "secret", "value": "shown-to-none", "environment_values": {"production": "other"}}
    (await bench.api.put("/v1/variables/TOKEN", json={"variable": variable})).raise_for_status()
    workflow = {**DEFINITION, "signing_secret": "whsec_c2lnbi13aXRoLXRoaXM="}
    saved = await bench.api.put("/v1/workflows/ring", params=here, json={"workflow": workflow})
    assert saved.status_code == 200, saved.text


async def write_secrets_of_a_workflow(bench: Bench) -> None:
    """A definition with a credential in a header, and the message that a run makes of it."""
    header = {"key": "authorization", "value": "Bearer of-step"}
    template = {"method": "post", "url": "https://api.example.com/", "headers": [header]}
    step = {"ref": "hook", "type": "channel", "channel_type": "http", "template": template}
    saved = await bench.api.put(
        "/v1/workflows/call",
        params={"environment": bench.environment},
        json={"workflow": {"name": "Call", "steps": [step]}},
    )
    assert saved.status_code == 200, saved.text
    key = await issue_key(bench.runtime.settings, bench.environment, "tests")
    triggered = await bench.api.post(
        "/v1/workflows/call/trigger",
        json={"recipients": ["ada"]},
        headers={"authorization": f"Bearer {key}"},
    )
    triggered.raise_for_status()
    [row] = await bench.rows("SELECT id FROM workflow_recipient_runs")
    runs = RunLog(bench.runtime.engine, bench.runtime.box)
    run = await runs.load(row["id"])
    request = await outgoing(run.step(0).template, {}, bench.runtime.templates, run.owner)  # type: ignore[union-attr]
    await runs.open_step(run, 0, StepStatus.PENDING, message=NewMessage("queued", request.as_content()))


async def test_everything_is_written_anew_under_the_first_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 2)
    await write_one_of_each(bench)
    source = await bench.source("http", secret=None, enforce_verification=False)
    for _ in range(4):
        await source.post(b'{"type": "a"}', {"authorization": "Bearer sent-secret"})
    before = await ciphertexts(bench)
    assert all(before.values()), "each column holds something"
    box, alone = keys(bench, NEW), SecretBox(SecretStr(NEW))

    looked = await rotated(bench, box, dry_run=True)
    assert {name: each.outdated for name, each in looked.items()} == {k: len(v) for k, v in before.items()}
    assert not any(each.is_done for each in looked.values())
    assert await ciphertexts(bench) == before, "looking changes nothing"

    done = await rotated(bench, box)
    assert all(each.is_done and each.rewritten == each.outdated for each in done.values())
    after = await ciphertexts(bench)
    for name, values in before.items():
        old = sorted(keys(bench).decrypt(each) for each in values)
        assert sorted(alone.decrypt(each) for each in after[name]) == old, name
        with pytest.raises(Permanent):
            keys(bench).decrypt(after[name][0])

    again = await rotated(bench, box)
    assert all(each.outdated == 0 and each.current for each in again.values()), "there is nothing left to do"
    assert await ciphertexts(bench) == after


async def test_a_rotation_that_breaks_off_goes_on_and_overwrites_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 2)
    for _ in range(5):
        await bench.source("stripe")
    box = keys(bench, NEW)
    real, batches = key_rotation._rewrite, 0

    async def breaks_off(*given: Any) -> int:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise ConnectionError
        return await real(*given)

    monkeypatch.setattr(key_rotation, "_rewrite", breaks_off)
    with pytest.raises(ConnectionError):
        await rotated(bench, box)

    async def is_overtaken(engine: Any, table: Any, column: Any, rows: Any) -> int:
        """A person changes a secret after it was read and before it is written."""
        async with bench.runtime.engine.begin() as connection:
            change = text("UPDATE signing_secrets SET ciphertext = :new WHERE id = :id")
            await connection.execute(change, {"new": keys(bench).encrypt(b"newest"), "id": rows[0][0].id})
        monkeypatch.setattr(key_rotation, "_rewrite", real)
        return await real(engine, table, column, rows)

    monkeypatch.setattr(key_rotation, "_rewrite", is_overtaken)
    tally = (await rotated(bench, box))["signing_secrets.ciphertext"]
    assert (tally.current, tally.outdated, tally.rewritten, tally.is_done) == (2, 3, 2, False)
    values = (await ciphertexts(bench))["signing_secrets.ciphertext"]
    assert b"newest" in [box.decrypt(each) for each in values]
    assert (await rotated(bench, box))["signing_secrets.ciphertext"].is_done


async def test_the_command_counts_and_shows_no_secret(bench: Bench, database_url: str) -> None:
    await bench.source("stripe", secret="whsec_dGhlLXNlY3JldA==")
    old = keys(bench)
    assert bench.runtime.settings.secret_key is not None
    known = bench.runtime.settings.secret_key.get_secret_value()

    async def run(secret_key: str, *options: str) -> tuple[int, str]:
        settings = {"DOORBELL_DATABASE_URL": database_url, "DOORBELL_SECRET_KEY": secret_key}
        result = await asyncio.to_thread(
            CliRunner().invoke, cli, ["secrets", "rotate", *options], env={**settings, "COLUMNS": "200"}
        )
        assert isinstance(result.exception, SystemExit | None), result.exception
        for secret in ("whsec", "dGhl", "gAAAA", known, NEW):
            assert secret not in result.output
        return result.exit_code, result.output

    code, printed = await run(f"{NEW},{known}", "--check")
    assert code == 1
    assert "1 value under another key than the first" in printed
    code, printed = await run(NEW)
    assert code == 1
    assert "No key in DOORBELL_SECRET_KEY opens 1 value:" in printed
    code, printed = await run(f"{NEW},{known}")
    assert code == 0
    assert "signing_secrets.ciphertext" in printed
    code, printed = await run(NEW, "--check")
    assert code == 0
    assert "The first key opens everything" in printed
    with pytest.raises(Permanent):
        old.decrypt((await ciphertexts(bench))["signing_secrets.ciphertext"][0])


async def test_a_command_with_another_key_says_so(bench: Bench, database_url: str) -> None:
    source = await bench.source("stripe")
    given = {"DOORBELL_DATABASE_URL": database_url, "DOORBELL_SECRET_KEY": NEW}
    arguments = ["-m", "app.cli", "send", source.key, "-e", bench.environment]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**os.environ, **given}, stderr=PIPE
    )
    _, complaint = await process.communicate()
    assert process.returncode == 2
    assert complaint.decode().splitlines() == [
        "doorbell: no key in DOORBELL_SECRET_KEY decrypts this secret; was a key removed?"
    ]
