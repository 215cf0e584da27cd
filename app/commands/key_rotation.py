"""`doorbell secrets rotate`: what is encrypted in the database, written anew under the first key. Shows
counts only."""

from rich.console import Console

from app.account.key_rotation import Tally, rotate_keys
from app.cli.printing import print_table
from app.core.secrets import SecretBox
from app.core.settings import Settings
from app.database.engine import open_engine


async def rotate(settings: Settings, console: Console, *, check: bool) -> int:
    """Rotate, or with `check` only look; 1 when the first key alone does not open everything."""
    engine, box = open_engine(settings), SecretBox(settings.secret_key)
    try:
        tallies = [tally async for tally in rotate_keys(engine, box, dry_run=check)]
    finally:
        await engine.dispose()
    rows = [
        [each.column, *map(str, (each.current, each.outdated, each.rewritten, each.unreadable))]
        for each in tallies
    ]
    # Short, so that no column is folded in a terminal of 80.
    print_table(console, ("column", "first key", "others", "rewritten", "unreadable"), rows)
    console.print(_verdict(tallies), highlight=False, soft_wrap=True)
    return 0 if all(each.is_done for each in tallies) else 1


def _verdict(tallies: list[Tally]) -> str:
    unreadable = sum(each.unreadable for each in tallies)
    left = sum(each.outdated - each.rewritten for each in tallies)
    if unreadable:
        return (
            f"No key in DOORBELL_SECRET_KEY opens {_values(unreadable)}: set the key that they were written "
            "under too, or write them anew."
        )
    if left:
        return f"{_values(left)} under another key than the first: run `doorbell secrets rotate`."
    return "The first key opens everything: the others can be taken out of DOORBELL_SECRET_KEY."


def _values(number: int) -> str:
    return "1 value" if number == 1 else f"{number} values"
