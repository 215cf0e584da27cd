"""What is wrong with a request, in words: Pydantic's findings and our own become one refusal that names all
fields."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic_core import ErrorDetails

from app.core.errors import FieldError, RequestError


def invalid_fields(errors: Sequence[FieldError]) -> RequestError:
    """The refusal of a request with these fields wrong."""
    first = f"{errors[0].field}: {errors[0].message}"
    message = first if len(errors) == 1 else f"{len(errors)} fields are wrong, the first is {first}"
    return RequestError(422, "invalid_params", message, errors=list(errors))


def field_errors(errors: Sequence[ErrorDetails], *, within: str = "body") -> list[FieldError]:
    """What Pydantic found, as dotted paths and sentences. `within` names the whole."""
    return [FieldError(".".join(map(str, each["loc"])) or within, _sentence(each)) for each in errors]


def _sentence(error: ErrorDetails) -> str:
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field that can be set here; check its spelling"
        case "model_type" | "model_attributes_type":
            return "is not an object"
        case "value_error":
            return str(error.get("ctx", {}).get("error", error["msg"]))
    return error["msg"]


# Room on both sides of the calendar for what is added to a time and for its offset; ids begin with 1970.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def aware(moment: datetime | None) -> datetime | None:
    """A time that a caller gives, in UTC, which it is without an offset. Beyond `EARLIEST` and `LATEST`
    nothing happened: there it is the nearest of them."""
    if moment is None:
        return None
    with_offset = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(with_offset, EARLIEST), LATEST).astimezone(UTC)
