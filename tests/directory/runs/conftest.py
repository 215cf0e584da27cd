"""Workflows of one environment, triggered through Knock's SDK and followed by a real worker."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from knockapi import AsyncKnock
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.tokens import add_key
from app.core.settings import Settings
from app.runtime.resources import Runtime
from tests.bench import Api, Bench
from tests.directory.runs.far import MailServer
from tests.servers import eventually

ENDED = ("completed", "cancelled")


@pytest.fixture
def settings(settings: Settings, mails: MailServer) -> Settings:
    """As everywhere, with the SMTP server of the test, and with loopback allowed: the far side is there."""
    return settings.model_copy(
        update={
            **mails.settings,
            "allow_private_addresses": True,
            "temporal_ui_url": "http://temporal.example",
        }
    )


@dataclass
class Runs:
    """Workflows and their runs, as users work with them."""

    bench: Bench
    knock: AsyncKnock
    api: Api

    @property
    def environment(self) -> str:
        return self.bench.environment

    async def define(self, *steps: dict[str, Any], key: str = "welcome", **fields: Any) -> None:
        """Save a workflow."""
        answer = await self.api.put(
            f"/v1/workflows/{key}",
            params={"environment": self.environment},
            json={"workflow": {"name": "Welcome", "steps": steps, **fields}},
        )
        assert answer.status_code == 200, answer.text

    async def trigger(self, *recipients: Any, key: str = "welcome", **fields: Any) -> list[str]:
        """Trigger a workflow; the ids of the recipients' runs."""
        answer = await self.knock.workflows.trigger(
            key,
            recipients=list(recipients) or [{"id": "ada", "name": "Ada", "email": "ada@example.com"}],
            **fields,
        )
        rows = await self.bench.rows(
            "SELECT id FROM workflow_recipient_runs WHERE workflow_run_id = :id ORDER BY recipient_id",
            id=UUID(answer.workflow_run_id),
        )
        return [str(row["id"]) for row in rows]

    async def run(self, run_id: str) -> dict[str, Any]:
        """The run as the API shows it."""
        answer = await self.knock.get(f"/v1/workflow_recipient_runs/{run_id}", cast_to=object)
        assert isinstance(answer, dict)
        return answer

    async def in_status(self, run_id: str, *statuses: str, deadline: float = 60.0) -> dict[str, Any]:
        """The run, once it has one of these statuses."""

        async def look() -> dict[str, Any] | None:
            run = await self.run(run_id)
            return run if run["status"] in statuses else None

        found = await eventually(look, deadline)
        assert found is not None
        return found

    async def ended(self, run_id: str, deadline: float = 60.0) -> dict[str, Any]:
        return await self.in_status(run_id, *ENDED, deadline=deadline)

    async def messages(self, run_id: str) -> list[dict[str, Any]]:
        found = await self.knock.messages.list(workflow_recipient_run_id=run_id)
        return [each.model_dump(by_alias=True) for each in reversed(found.items)]


def statuses(run: dict[str, Any]) -> dict[str, str]:
    """The status of each step by its ref."""
    return {step["ref"]: step["status"] for step in run["steps"]}


@pytest.fixture
async def runs(runtime: Runtime, bench: Bench, api: Api) -> AsyncIterator[Runs]:
    async with AsyncSession(runtime.engine) as session:
        _, key = await add_key(session, bench.environment, "tests")
        await session.commit()
    async with AsyncKnock(api_key=key, base_url=str(api.base_url), max_retries=0) as knock:
        yield Runs(bench, knock, api)


def delay(ref: str = "wait", **settings: Any) -> dict[str, Any]:
    return {"ref": ref, "type": "delay", "settings": settings or {"delay_for": {"unit": "hours", "value": 1}}}


def email(ref: str = "mail", **fields: Any) -> dict[str, Any]:
    template = {"subject": "Hi {{ recipient.name }}", "html_body": "<p>{{ data.text }}</p>"}
    return {"ref": ref, "type": "channel", "channel_type": "email", "template": template, **fields}


def in_app(ref: str = "feed", **fields: Any) -> dict[str, Any]:
    template = {"markdown_body": "**{{ data.text }}**"}
    return {"ref": ref, "type": "channel", "channel_type": "in_app_feed", "template": template, **fields}


def fetch(url: str, ref: str = "get", **settings: Any) -> dict[str, Any]:
    return {"ref": ref, "type": "http_fetch", "settings": {"method": "get", "url": url, **settings}}


def webhook(url: str, ref: str = "hook", **fields: Any) -> dict[str, Any]:
    template = {
        "method": "post",
        "url": url,
        "body": '{"to": {{ recipient.id | json }}, "n": {{ data.n | json }}}',
    }
    return {"ref": ref, "type": "channel", "channel_type": "http", "template": template, **fields}
