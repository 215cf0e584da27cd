"""What is wrong with a request, in words: Pydantic's findings and our own become one refusal that names all
fields."""

from collections.abc import Sequence
from typing import get_args

from pydantic_core import ErrorDetails, core_schema

from app.core.errors import FieldError, RequestError


def invalid_fields(errors: Sequence[FieldError]) -> RequestError:
    """The refusal of a request with these fields wrong."""
    first = f"{errors[0].field}: {errors[0].message}"
    message = first if len(errors) == 1 else f"{len(errors)} fields are wrong, the first is {first}"
    return RequestError(422, "invalid_params", message, errors=list(errors))


def field_errors(errors: Sequence[ErrorDetails], *, within: str = "body") -> list[FieldError]:
    """What Pydantic found, as dotted paths and sentences. `within` names the whole."""
    return [FieldError(".".join(map(str, each["loc"])) or within, _sentence(each)) for each in errors]


def names_another_path(errors: Sequence[ErrorDetails]) -> bool:
    """Whether only a part of the path is wrong that stands for one of several paths: it is none of them."""
    return all(each["loc"][0] == "path" and each["type"] in ("literal_error", "enum") for each in errors)


def _sentence(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context.get("error", "is not valid"))
        case "string_pattern_mismatch" if context.get("pattern") == r"\S":
            return "is blank"
        case kind if kind in _SENTENCES:
            return _SENTENCES[kind].format_map(context)
        case kind if kind in _OF_PYDANTIC:
            return "is not valid"
    return error["msg"]


# What Pydantic's own texts say, in our words: those name its types, and how they were found out.
_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "is not a field that can be set here; check its spelling",
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type", "dataclass_type", "mapping_type"),
        "is not an object",
    ),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "is not a list"),
    **dict.fromkeys(("string_type", "string_sub_type"), "is not a string"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "is not a whole number"
    ),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "is not a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "is not true or false"),
    **dict.fromkeys(("uuid_type", "uuid_parsing", "uuid_version"), "is not a UUID"),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing"), "is not a date (YYYY-MM-DD)"
    ),
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing", "datetime_object_invalid"),
        "is not a time in ISO 8601, for example 2026-01-01T00:00:00Z",
    ),
    "timezone_aware": "has no offset from UTC: end it with Z, or with one like +02:00",
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
    "none_required": "must be null",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "string_unicode": "is not valid Unicode",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
_OF_PYDANTIC = frozenset(get_args(core_schema.ErrorType))
