"""`python -m app.cli`: the same as `doorbell`."""

from app.cli.main import main

main()
