"""The short way of the embedded destination: users identified and workflows triggered without a message of
HTTP.

It answers what is simple and goes well. Everything else it leaves to the routes, which say what is wrong: so
both ways accept the same requests and give the same answers.
"""

import re
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.directory import answers
from app.api.directory.requests import Id, IdentifyUserRequest, TriggerWorkflowRequest
from app.api.directory.triggers import digest_of_request, trigger_of
from app.api.storable import MAXIMUM_BODY_BYTES, check_storable
from app.core import exact_json
from app.core.errors import RequestError
from app.directory.batched_writes import BatchedWrites, Identification
from app.directory.idempotency import MAXIMUM_KEY_LENGTH
from app.directory.recipients import Reference
from app.directory.workflow_runs import KeyedTrigger
from app.models.types import new_id

Json = dict[str, Any]

_USER = re.compile(r"/v1/users/([^/?#]+)")
# The path is part of what an idempotency key stands for: only keys that the routes read as they are written.
_TRIGGER = re.compile(r"/v1/workflows/([\w.~-]+)/trigger", re.ASCII)
_ID: TypeAdapter[str] = TypeAdapter(Id)


class Shortcut:
    """Answers requests of one process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._writes = BatchedWrites(engine)

    async def answer(
        self, environment: str, method: str, path: str, body: Json, idempotency_key: str | None
    ) -> Json | None:
        """The answer to a request that succeeds; None for one that the routes are to answer. `path` is as in
        the URL."""
        try:
            if method == "PUT" and (user := _USER.fullmatch(path)):
                return await self._identify(environment, _ID.validate_python(unquote(user[1])), body)
            if method == "POST" and idempotency_key and (workflow := _TRIGGER.fullmatch(path)):
                key = _ID.validate_python(workflow[1])
                return await self._trigger(environment, key, path, body, idempotency_key)
        except (ValidationError, RequestError, SQLAlchemyError, OSError):
            return None
        return None

    async def _identify(self, environment: str, user_id: str, body: Json) -> Json | None:
        if (size := _size(body)) > MAXIMUM_BODY_BYTES or "\x00" in user_id:
            return None
        profile = IdentifyUserRequest.model_validate(body).profile(Reference.to_user(user_id))
        return answers.user(await self._writes.identify(Identification(environment, profile, size)))

    async def _trigger(self, environment: str, workflow: str, path: str, body: Json, key: str) -> Json | None:
        if (size := _size(body)) > MAXIMUM_BODY_BYTES or len(key) > MAXIMUM_KEY_LENGTH:
            return None
        request = TriggerWorkflowRequest.model_validate(body)
        if request.profiles():
            # Recipients and runs are one transaction.
            return None
        workflow_run_id: UUID = new_id()
        answer = {"workflow_run_id": str(workflow_run_id)}
        keyed = KeyedTrigger(
            environment,
            workflow_run_id,
            trigger_of(workflow, request),
            key,
            digest_of_request(path, body),
            request_id=str(new_id()),
            response=answer,
            size=size,
        )
        return answer if await self._writes.trigger(keyed) else None


def _size(body: Json) -> int:
    """Bytes of a body that can be stored.

    Raises:
        RequestError: it cannot.
    """
    sent = exact_json.dumps(body)
    check_storable(sent, body)
    return len(sent)
