"""What an event of a customer data platform's library says of itself: whether its sender lets Doorbell have
it, and what time it was."""

from datetime import datetime
from typing import Any

# The names under which `integrations` may mean Doorbell, in any case.
NAMES = ("doorbell", "knock")


def exclusion(body: dict[str, Any]) -> str | None:
    """Why an event is not for Doorbell, if its `integrations` say so.

    `All` decides unless Doorbell is named. An object of options counts as true.
    https://segment.com/docs/guides/filtering-data/#filtering-with-the-integrations-object
    """
    integrations = body.get("integrations")
    if not isinstance(integrations, dict):
        return None
    by_name = {name.lower(): (name, value) for name, value in integrations.items()}
    named = [by_name[name] for name in NAMES if name in by_name]
    refused = next((name for name, value in named if value is False), None)
    if refused is not None:
        return f"integrations.{refused} is false: the sender does not let Doorbell act on this event"
    if not named and by_name.get("all", ("", None))[1] is False:
        name = by_name["all"][0]
        return f"integrations.{name} is false: the sender does not let Doorbell act on this event"
    return None


def by_our_clock(occurred: datetime, sent: datetime | None, received: datetime | None) -> datetime:
    """When an event happened, by the clock of the receiver: as long before it was received as, by the
    sender's clock, before it was sent.

    https://segment.com/docs/connections/spec/common/#timestamps
    """
    if sent is None or received is None:
        return occurred
    try:
        return received - (sent - occurred)
    except OverflowError:
        return occurred
