"""The worker process: dispatches and executes the events of one or several environments.

    python worker.py --environment production --environment staging

Run as many as the load asks for; they share the work. `app/worker/main.py` composes it.
"""

import sys

from app.cli.main import main

if __name__ == "__main__":
    main(["worker", *sys.argv[1:]])
