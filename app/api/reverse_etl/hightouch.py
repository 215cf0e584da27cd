"""Hightouch's Embedded Destination, with audiences as its one object, as Knock has it.

https://hightouch.com/docs/destinations/custom; what the documentation leaves open follows Hightouch's own
examples, https://github.com/hightouchio/custom-destinations.
"""

from typing import Any

from app.api.reverse_etl.audiences import AudienceMember, Audiences, Row, apply_rows, identifier
from app.api.reverse_etl.json_rpc import InvalidParams, Json, Method, member, rows

MAXIMUM_ROWS = 10_000
BATCH_SIZE = 1000
OBJECT = "audiences"
INSERT, MIRROR = "insert", "mirror"
USER_ID = "user_id"
TENANT = "tenant"
AUDIENCE_KEY = "audience_key"

OBJECTS = [{"id": OBJECT, "label": "Audiences"}]
MODES = [
    {
        "id": INSERT,
        "label": "Insert only",
        "description": "Add a user to the audience when a row is added. Nobody is removed.",
    },
    {
        "id": MIRROR,
        "label": "Mirror",
        "description": "Add a user when a row is added, and remove the user when the row is removed.",
    },
]
FIELDS = [
    {"id": USER_ID, "label": "User ID", "type": "STRING", "identifier": True, "required": True},
    {"id": TENANT, "label": "Tenant", "type": "STRING"},
]
# A form in the language of react-jsonschema-form.
OPTIONS = {
    "schema": {
        "type": "object",
        "required": [AUDIENCE_KEY],
        "properties": {
            AUDIENCE_KEY: {
                "type": "string",
                "title": "Audience Key",
                "description": "The key of the audience to sync. It is created when there is none.",
                "minLength": 1,
                "maxLength": 255,
            }
        },
    },
    "uiSchema": {},
}


def methods(audiences: Audiences) -> dict[str, Method]:
    """The methods of the protocol."""

    async def list_objects(params: Json) -> Json:
        return {"objects": OBJECTS}

    async def list_modes(params: Json) -> Json:
        _check_object(params)
        return {"modes": MODES}

    async def list_fields(params: Json) -> Json:
        _check_object(params)
        return {"fields": FIELDS}

    async def list_options(params: Json) -> Json:
        _check_object(params)
        return {"options": OPTIONS}

    async def validate(params: Json) -> Json:
        return {"errors": _configuration_errors(member(params, "configuration"))}

    async def behavior(params: Json) -> Json:
        configuration = member(params, "configuration")
        if problem := _mode_problem(configuration):
            raise InvalidParams(problem)
        removes = configuration.get("mode", MIRROR) != INSERT
        return {
            "batchSize": BATCH_SIZE,
            "operations": {"add": True, "change": False, "remove": removes},
            "skipInitialRun": False,
        }

    async def add(params: Json) -> Json:
        return await _sync(audiences, params, removes=False)

    async def change(params: Json) -> Json | None:
        # Membership is all there is, and a changed row is a member still. `behavior` says so; nobody calls
        # this.
        return None

    async def remove(params: Json) -> Json:
        return await _sync(audiences, params, removes=True)

    return {
        each.__name__: each
        for each in (
            list_objects,
            list_modes,
            list_fields,
            list_options,
            validate,
            behavior,
            add,
            change,
            remove,
        )
    }


def _check_object(params: Json) -> None:
    if params.get("object", OBJECT) != OBJECT:
        raise InvalidParams(f"there is no object {str(params['object'])[:100]!r}; there is {OBJECT}")


def _configuration_errors(configuration: Json) -> list[Json]:
    """What is wrong with a sync's configuration."""
    errors = []
    if (found := configuration.get("object", OBJECT)) != OBJECT:
        errors.append(
            {"field": "object", "message": f"there is no object {str(found)[:100]!r}; there is {OBJECT}"}
        )
    if problem := _mode_problem(configuration):
        errors.append({"field": "mode", "message": problem})
    if identifier(configuration.get(AUDIENCE_KEY)) is None:
        errors.append({"field": AUDIENCE_KEY, "message": "Audience Key is a text of 1 to 255 characters"})
    if _columns(configuration).get(USER_ID) is None:
        errors.append({"field": USER_ID, "message": "User ID is not mapped to a column"})
    return errors


def _mode_problem(configuration: Json) -> str | None:
    mode = configuration.get("mode", MIRROR)
    if mode in (INSERT, MIRROR):
        return None
    return f"there is no mode {str(mode)[:100]!r}; there are {INSERT} and {MIRROR}"


async def _sync(audiences: Audiences, params: Json, *, removes: bool) -> Json:
    """The rows that were not applied, each with the reason. One that cannot be read does not keep the
    others."""
    configuration = member(params, "configuration")
    if errors := _configuration_errors(configuration):
        raise InvalidParams("; ".join(each["message"] for each in errors))
    if removes and configuration.get("mode") == INSERT:
        raise InvalidParams(
            f"the mode {INSERT} only adds: nobody is removed. Use the mode {MIRROR} to remove"
        )
    columns, audience = _columns(configuration), identifier(configuration[AUDIENCE_KEY])
    given = rows(params, "rows", MAXIMUM_ROWS)
    read = [_row(position, row, columns, str(audience)) for position, row in enumerate(given)]
    problems = {position: each for position, each in enumerate(read) if isinstance(each, str)}
    problems |= await apply_rows(
        audiences, [each for each in read if isinstance(each, Row)], removes=removes, create_audience=True
    )
    return {
        "rejectedRows": [
            {"index": position, "row": _shown(given[position]), "reason": problems[position]}
            for position in sorted(problems)
        ]
    }


def _shown(row: Any) -> Json:
    """The row's plain values, by which it is recognised."""
    fields = row.items() if isinstance(row, dict) else ()
    return {name: value for name, value in fields if not isinstance(value, dict | list)}


def _columns(configuration: Json) -> dict[str, str]:
    """The column that each field is mapped from. The identifier's own mapping counts most."""
    mappings = configuration.get("mappings")
    found = [*(mappings if isinstance(mappings, list) else []), configuration.get("identifierMapping")]
    return {
        each["to"]: each["from"]
        for each in found
        if isinstance(each, dict) and isinstance(each.get("to"), str) and isinstance(each.get("from"), str)
    }


def _row(position: int, row: Any, columns: dict[str, str], audience: str) -> Row | str:
    """The row's member, or what it lacks. Without a tenant, which may be null, it is a member within none."""
    if not isinstance(row, dict):
        return "the row is not an object"
    user_id = identifier(row.get(columns[USER_ID]))
    if user_id is None:
        return f"column {columns[USER_ID]} is not a text of 1 to 255 characters"
    tenant = row.get(columns[TENANT]) if TENANT in columns else None
    if tenant in (None, ""):
        return Row(position, audience, AudienceMember(user_id))
    if identifier(tenant) is None:
        return f"column {columns[TENANT]} is not a text of 1 to 255 characters"
    return Row(position, audience, AudienceMember(user_id, identifier(tenant)))
