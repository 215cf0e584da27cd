"""Census's Custom Destination API, version 1, with audiences as its one object, as Knock has it.

https://github.com/sutrolabs/census-docs, basics/developers/custom-api.md
"""

from typing import Any

from app.api.reverse_etl.audiences import AudienceMember, Audiences, Row, apply_rows, identifier
from app.api.reverse_etl.json_rpc import InvalidParams, Json, Method, member, rows

MAXIMUM_RECORDS = 1000
OBJECT: Json = {"object_api_name": "audiences", "label": "Audiences"}
USER_ID = "user_id"
AUDIENCE_KEY = "audience_key"
# A mirror comes as upserts and deletes.
OFFERED = ("insert", "mirror")
ADDING = frozenset({"insert", "upsert", "update", "mirror"})
REMOVING = frozenset({"delete"})


def _field(name: str, label: str, *, is_identifier: bool) -> Json:
    return {
        "field_api_name": name,
        "label": label,
        "identifier": is_identifier,
        "required": True,
        "createable": True,
        "updateable": True,
        "type": "string",
        "array": False,
    }


FIELDS = [
    _field(USER_ID, "User ID", is_identifier=True),
    _field(AUDIENCE_KEY, "Knock audience key", is_identifier=False),
]


def methods(audiences: Audiences) -> dict[str, Method]:
    """The methods of the protocol."""

    async def test_connection(params: Json) -> Json:
        problem = await audiences.check()
        return {"success": True} if problem is None else {"success": False, "error_message": problem}

    async def list_objects(params: Json) -> Json:
        return {"objects": [OBJECT]}

    async def list_fields(params: Json) -> Json:
        _check_object(params)
        return {"fields": FIELDS}

    async def supported_operations(params: Json) -> Json:
        _check_object(params)
        return {"operations": list(OFFERED)}

    async def get_sync_speed(params: Json) -> Json:
        return {
            "maximum_batch_size": 500,
            "maximum_parallel_batches": 4,
            "maximum_records_per_second": 1000,
        }

    async def sync_batch(params: Json) -> Json:
        return await _sync_batch(audiences, params)

    return {
        each.__name__: each
        for each in (
            test_connection,
            list_objects,
            list_fields,
            supported_operations,
            get_sync_speed,
            sync_batch,
        )
    }


def _check_object(params: Json) -> None:
    name = member(params, "object").get("object_api_name")
    if name != OBJECT["object_api_name"]:
        raise InvalidParams(f"there is no object {str(name)[:100]!r}; there is {OBJECT['object_api_name']}")


async def _sync_batch(audiences: Audiences, params: Json) -> Json:
    """Each record's result, in their order. One that cannot be read does not keep the others."""
    plan = member(params, "sync_plan")
    _check_object(plan)
    operation = plan.get("operation")
    if not isinstance(operation, str) or operation not in ADDING | REMOVING:
        raise InvalidParams(f"the operation {str(operation)[:100]!r} is not one of insert, upsert and delete")
    records = rows(params, "records", MAXIMUM_RECORDS)
    read = [_row(position, record) for position, record in enumerate(records)]
    problems = {position: each for position, each in enumerate(read) if isinstance(each, str)}
    problems |= await apply_rows(
        audiences,
        [each for each in read if isinstance(each, Row)],
        removes=operation in REMOVING,
        create_audience=False,
    )
    return {
        "record_results": [_result(record, problems.get(position)) for position, record in enumerate(records)]
    }


def _row(position: int, record: Any) -> Row | str:
    """The record's member and audience, or what it lacks."""
    if not isinstance(record, dict):
        return "the record is not an object"
    user_id, audience = identifier(record.get(USER_ID)), identifier(record.get(AUDIENCE_KEY))
    if user_id is None:
        return f"{USER_ID} is not a text of 1 to 255 characters"
    if audience is None:
        return f"{AUDIENCE_KEY} is not a text of 1 to 255 characters"
    return Row(position, audience, AudienceMember(user_id))


def _result(record: Any, problem: str | None) -> Json:
    """`identifier` as it came: Census finds its record by it."""
    found = record.get(USER_ID) if isinstance(record, dict) else None
    outcome: Json = {
        "identifier": None if isinstance(found, dict | list) else found,
        "success": problem is None,
    }
    return outcome if problem is None else {**outcome, "error_message": problem}
