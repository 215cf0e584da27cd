"""`python -m app.cli`: the same as `doorbell`."""

from app.cli import main

main()
