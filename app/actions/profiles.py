"""What users, objects and tenants have in common: fields beside custom properties at the top level of one
body."""

from collections.abc import Collection

from app.actions.base import Parameter, Payload, ValueKind

NAME = Parameter("name", ValueKind.TEXT, "Name", "Display name.", placeholder="body.name", clears=True)
TIMEZONE = Parameter(
    "timezone",
    ValueKind.TEXT,
    "Timezone",
    "A tz database name.",
    placeholder="body.timezone",
    clears=True,
)
LOCALE = Parameter(
    "locale",
    ValueKind.TEXT,
    "Locale",
    "For example en-GB.",
    placeholder="body.locale",
    clears=True,
)
CHANNEL_DATA = Parameter(
    "channel_data",
    ValueKind.OBJECT,
    "Channel data",
    "An object by channel id: the tokens, devices or connections to deliver to.",
    placeholder="body.channel_data",
)
PREFERENCES = Parameter(
    "preferences",
    ValueKind.OBJECT,
    "Preferences",
    "An object by preference set id, usually `default`.",
    placeholder="body.preferences",
)

# What every recipient has beside custom properties.
FIELDS = {
    "name": ValueKind.TEXT,
    "timezone": ValueKind.TEXT,
    "locale": ValueKind.TEXT,
    "created_at": ValueKind.MOMENT,
    "channel_data": ValueKind.OBJECT,
    "preferences": ValueKind.OBJECT,
}


def upserted(payload: Payload, *, address: Collection[str]) -> Payload:
    """The body of an upsert: custom properties, and over them the fields. What the URL says is not
    repeated."""
    properties = payload.get("properties", {})
    fields = {name: value for name, value in payload.items() if name != "properties"}
    return {name: value for name, value in {**properties, **fields}.items() if name not in address}
