"""The entry of `doorbell`. Its commands are put together in `app/cli/commands.py`."""

import sys
from collections.abc import Sequence

from pydantic import ValidationError

from app.cli import serving
from app.core.errors import DoorbellError
from app.runtime.process import leave


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; errors of configuration are said, not traced."""
    code = 0
    try:
        _run(sys.argv[1:] if arguments is None else list(arguments))
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except DoorbellError as error:
        print(f"doorbell: {error}", file=sys.stderr)  # noqa: T201
        code = 2
    except ValidationError as error:
        for each in error.errors():
            name = "_".join(str(part) for part in each["loc"]).upper()
            print(f"doorbell: DOORBELL_{name}: {each['msg']}", file=sys.stderr)  # noqa: T201
        code = 2
    leave(code)


def _run(arguments: list[str]) -> None:
    # What runs for weeks does without the libraries that commands are made with: 8 MB, and a second of
    # start-up.
    if arguments == ["api"]:
        serving.api()
    elif environments := _environments_of_worker(arguments):
        serving.worker(environments)
    else:
        from app.cli.commands import cli

        cli(args=arguments, standalone_mode=True)


def _environments_of_worker(arguments: list[str]) -> list[str]:
    """Those that `worker -e one --environment another` names; none when it is anything else."""
    command, *options = arguments or [""]
    names, values = options[::2], options[1::2]
    usual = command == "worker" and len(names) == len(values) and {*names} <= {"-e", "--environment"}
    return values if usual else []
