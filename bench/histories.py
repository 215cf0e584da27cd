"""The histories of events' workflows in Temporal: events and bytes each. A process of its own, as the
client's runtime should not be in the one that starts others.

    python -m bench.histories ADDRESS DATABASE_URL

Prints JSON, the means over the newest hundred workflows.
"""

import asyncio
import json
import os
import sys

import psycopg
from temporalio.client import Client

_NEWEST = "SELECT workflow_id, run_id FROM events WHERE run_id IS NOT NULL ORDER BY id DESC LIMIT 100"


async def histories(address: str, database_url: str) -> dict[str, float]:
    with psycopg.connect(database_url) as connection:
        runs = connection.execute(_NEWEST).fetchall()
    client = await Client.connect(address)
    described = await asyncio.gather(
        *(client.get_workflow_handle(identifier, run_id=run_id).describe() for identifier, run_id in runs)
    )
    information = [each.raw_description.workflow_execution_info for each in described]
    return {
        "events": sum(each.history_length for each in information) / len(information),
        "bytes": sum(each.history_size_bytes for each in information) / len(information),
    }


if __name__ == "__main__":
    json.dump(asyncio.run(histories(*sys.argv[1:])), sys.stdout)
    sys.stdout.flush()
    # As in bench/references.py.
    os._exit(0)
