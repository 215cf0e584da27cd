"""What the parts of a requested change have in common, whatever is changed."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

MAXIMUM_NAME_LENGTH = 255

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_NAME_LENGTH, pattern=r"\S")]
ReadOnly = Annotated[Any, Field(None, exclude=True, json_schema_extra={"readOnly": True})]


class Change(BaseModel):
    """Part of a change. Unknown fields are errors, so that no misspelled setting is lost in silence; what
    answers add and tools send back (read-only fields, names that start with `_` or `$`) is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_annotations(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: item for name, item in value.items() if not name.startswith(("_", "$"))}

    def given(self) -> dict[str, Any]:
        """The fields that the caller set, by name."""
        return {
            name: getattr(self, name)
            for name in self.model_fields_set
            if not type(self).model_fields[name].exclude
        }
