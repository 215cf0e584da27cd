"""A request to trigger a workflow, as the directory takes it."""

import orjson

from app.api.directory.requests import TriggerWorkflowRequest, reference_of
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.database.engine import to_json
from app.directory.workflow_runs import Trigger
from app.models.types import digest_of

MAXIMUM_DATA_BYTES = 10 * 1024 * 1024


def trigger_of(key: str, body: TriggerWorkflowRequest) -> Trigger:
    """What a request asks for.

    Raises:
        RequestError: 422, more data than is kept.
    """
    if body.data is not None and len(to_json(body.data)) > MAXIMUM_DATA_BYTES:
        error = FieldError("data", "has more than 10 MB")
        raise RequestError(422, "invalid_params", f"data {error.message}", errors=[error])
    return Trigger(
        workflow=key,
        recipients=[reference_of(each) for each in body.recipients],
        actor=None if body.actor is None else reference_of(body.actor),
        tenant=body.tenant if body.tenant is None or isinstance(body.tenant, str) else body.tenant.id,
        cancellation_key=body.cancellation_key,
        data=body.data,
        settings=None if body.settings is None else body.settings.model_dump(exclude_none=True),
    )


def digest_of_request(path: str, body: object) -> str:
    """The same for the same request, however its JSON is laid out."""
    return digest_of(path, exact_json.dumps(body, option=orjson.OPT_SORT_KEYS).decode()).hex()
