"""Text as it may stand in a stored body: what a search looks for."""

import json


def needles(wanted: str) -> list[bytes]:
    """The text as it is, or as JSON writes it, with what is not ASCII escaped or not."""
    written = (json.dumps(wanted, ensure_ascii=escaped)[1:-1] for escaped in (True, False))
    return list({each.encode() for each in (wanted, *written)})
