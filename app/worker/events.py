"""Stage 3 of an event: the dispatcher, in the worker. Claims received events of its environment
(`app/events/claims.py`) and starts one workflow for each (`app/worker/start.py`).

Claiming is under a lease and starting is idempotent: an event that is claimed twice runs once.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from app.core.outages import Outage
from app.database.listener import Listener
from app.events.channel import CHANNEL
from app.events.claims import Claimed, Claims, Leases, Run
from app.events.event_log import EventLog, Finished
from app.events.ordering import ParkSweep, check_parks, release_held_too_long
from app.models.status import EventStatus
from app.models.types import first_id_at, now
from app.runtime import metrics, tracing
from app.sources.live import Configuration, Endpoint
from app.worker.start import EventStarter

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

MAXIMUM_BATCH = 50
# An event in flight this long gets its run noted and its lease renewed, and leaves its slot to others.
SETTLED_AFTER = timedelta(seconds=10)
# Claims look at the last two days; the sweep looks everywhere, and for leases that ran out.
CLAIM_SINCE = timedelta(days=2)
LOOK_INTERVAL = 1.0
# Slots are filled again when half of a source's share came free, or so many seconds after the first: events
# that are claimed together go through their stages together, and share statements.
REFILL_AFTER = 0.25
BACKOFF = 2.0


@dataclass
class InFlight:
    """A slot in use. `since` is the event loop's time, which no step of the clock moves."""

    source_key: str
    since: float
    run: Run | None = None


class Dispatcher:
    """Keeps a bounded number of an environment's events in flight."""

    def __init__(
        self,
        environment: str,
        *,
        engine: AsyncEngine,
        client: Client,
        configuration: Configuration,
        events: EventLog,
        maximum_in_flight: int,
        leases: Leases | None = None,
    ) -> None:
        self.environment = environment
        self._events = events
        self._maximum_in_flight = maximum_in_flight
        # A source that floods leaves half of the slots to the others, and what it has in flight is what they
        # wait for.
        self._share = max(1, maximum_in_flight // 2)
        self._leases = leases or Leases()
        self._engine = engine
        self._configuration = configuration
        self._claims = Claims(environment, engine, self._leases)
        self._parks = ParkSweep(environment, engine)
        # Whether the last claim met events that wait for their turn: then there may be many.
        self._look_further = False
        self._starter = EventStarter(
            environment,
            engine=engine,
            client=client,
            configuration=configuration,
            events=events,
            claims=self._claims,
        )
        self._in_flight: dict[UUID, InFlight] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._claiming = asyncio.Lock()
        self._wake = asyncio.Event()
        self._came_free = 0
        self._refill: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        metrics.watch_dispatcher(environment, lambda: len(self._in_flight), maximum_in_flight)

    def listen(self, listener: Listener) -> None:
        """Wake when an event of this environment arrives."""
        listener.subscribe(CHANNEL, self._wake.set, payload=self.environment)

    def release(self, event_id: UUID) -> None:
        """An event needs no attention any more: it is finished, or Temporal retries it."""
        if self._in_flight.pop(event_id, None) is None:
            return
        self._came_free += 1
        if self._came_free > self._share // 2:
            self._wake.set()
        elif self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(REFILL_AFTER, self._wake.set)

    async def run(self) -> None:
        """Dispatch until cancelled. What is being claimed and started then is finished by `drain`."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._repeat(self._dispatch, self._woken))
            both.create_task(self._repeat(self._sweep, self._until_next_sweep))

    async def drain(self) -> None:
        """Wait for the claims and starts under way."""
        while self._under_way:
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _repeat(
        self, work: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]
    ) -> None:
        """Work and pause in turns, whatever happens: a dispatcher that ends would leave all events
        waiting."""
        outage = Outage(logger, "dispatcher_waits_for_postgres", environment=self.environment)
        while True:
            try:
                if _clock() >= self._paused_until:
                    await work()
                    outage.is_over()
            except (SQLAlchemyError, OSError) as error:
                outage.goes_on(error=type(error).__name__)
                await asyncio.sleep(BACKOFF)
            except Exception:
                logger.exception("dispatcher_failed", extra={"environment": self.environment})
                await asyncio.sleep(BACKOFF)
            await pause()

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(LOOK_INTERVAL):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _until_next_sweep(self) -> None:
        await asyncio.sleep(self._leases.sweep.total_seconds())

    async def _dispatch(self) -> None:
        """Start what waits, as far as there are slots."""
        self._came_free = 0
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        if not self._free_slots():
            await self._release_ended()
        await self._release_held_too_long()
        await self._fill_slots(now() - CLAIM_SINCE)

    async def _sweep(self) -> None:
        """Look after what nobody tells: runs that take long, leases that ran out, events of long ago."""
        await self._note_long_runs()
        while await self._finish_even_if_cancelled(self._reclaim()):
            continue
        await self._parks.check_some()
        await self._fill_slots(datetime.fromtimestamp(0, UTC))

    async def _fill_slots(self, since: datetime) -> None:
        """Claim and start until nothing waits or no slot is free."""
        while await self._finish_even_if_cancelled(self._claim_waiting(first_id_at(since))):
            continue

    async def _finish_even_if_cancelled(self, claim: Coroutine[Any, Any, bool]) -> bool:
        """A claim that is committed but not started would wait for its lease to run out."""
        return await asyncio.shield(self._look_after(claim))

    async def _claim_waiting(self, since: UUID) -> bool:
        """Claim and start as many as there are slots for, up to a batch; whether more may wait and find a
        slot."""
        async with self._claiming:
            free = self._free_slots()
            if not free:
                return False
            taken = await self._claims.take_waiting(
                since,
                limit=free,
                share=self._share,
                busy=Counter(each.source_key for each in self._in_flight.values()),
                repeating=[each.source_key for each in self._sources() if not each.enforce_idempotency],
                look_further=self._look_further,
            )
            claimed = taken.claimed
            metrics.count_claimed(self.environment, [each.received_at for each in claimed])
            await self._events.load_ahead([each.id for each in claimed])
            self._start_all(claimed)
            self._look_further = bool(taken.parked)
            if taken.parked:
                await check_parks(self._engine, taken.parked)
            return len(claimed) == free or bool(taken.parked)

    def _sources(self) -> list[Endpoint]:
        return [each for each in self._configuration.endpoints() if each.environment == self.environment]

    async def _release_held_too_long(self) -> None:
        """Let those go on without their keys that have held up others for as long as their source allows."""
        for source in self._sources():
            if source.ordering_hold is not None:
                await release_held_too_long(
                    self._engine, self.environment, source.source_key, source.ordering_hold
                )

    async def _reclaim(self) -> bool:
        claimed = await self._claims.take_expired()
        await asyncio.gather(*self._start_all(claimed))
        return bool(claimed)

    def _free_slots(self) -> int:
        return max(0, min(MAXIMUM_BATCH, self._maximum_in_flight - len(self._in_flight)))

    def _start_all(self, events: Sequence[Claimed]) -> list[asyncio.Task[None]]:
        for event in events:
            self._in_flight[event.id] = InFlight(event.source_key, _clock())
        return [self._look_after(self._start_safely(event)) for event in events]

    def _look_after(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Do it in a task that `drain` waits for."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _start_safely(self, event: Claimed) -> None:
        """Start one event; when Temporal or Postgres is out, give it back and pause."""
        try:
            with tracing.dispatching(event.id, self.environment, event.traceparent):
                run = await self._starter.start(event)
        except RPCError as error:
            if is_too_large(error):
                # It would be refused each time, and must not hold up the others.
                await self._fail(event, f"Temporal refused it: {error.message}")
            else:
                # The installation's fault, as far as can be known: the event waits until that is mended.
                await self._give_back(event, error)
        except (SQLAlchemyError, OSError) as error:
            await self._give_back(event, error)
        except Exception:
            # One event that cannot be started must not stop the others; its lease brings it back.
            self.release(event.id)
            logger.exception("event_not_started", extra={"event_id": str(event.id)})
        else:
            if run is None:
                self.release(event.id)
            elif slot := self._in_flight.get(event.id):
                slot.run = run

    async def _give_back(self, event: Claimed, error: Exception) -> None:
        """Let it be claimed again, claim nothing for a moment, and say so once."""
        if _clock() >= self._paused_until:
            logger.warning(
                "dispatcher_pauses", extra={"environment": self.environment, "error": _named(error)}
            )
        self._paused_until = _clock() + BACKOFF
        self.release(event.id)
        try:
            await self._events.release([event.id])
        except (SQLAlchemyError, OSError):
            logger.warning("event_not_given_back", extra={"event_id": str(event.id)})

    async def _fail(self, event: Claimed, problem: str) -> None:
        logger.error("event_not_startable", extra={"event_id": str(event.id), "error": problem})
        self.release(event.id)
        metrics.count_finished(self.environment, event.source_key, EventStatus.FAILED, event.received_at)
        try:
            await self._events.finish(Finished(event.id, EventStatus.FAILED, now(), error=problem))
        except (SQLAlchemyError, OSError):
            logger.warning("event_not_failed", extra={"event_id": str(event.id)})

    async def _note_long_runs(self) -> None:
        """Note the runs of events that take long, so that their lease outlives them and their slot is
        free."""
        settled = [
            each.run
            for each in self._in_flight.values()
            if each.run is not None and _clock() - each.since > SETTLED_AFTER.total_seconds()
        ]
        await self._claims.note(settled)
        for run in settled:
            self.release(run.event_id)

    async def _release_ended(self) -> None:
        """Free the slots of events that another worker process finished."""
        for event_id in await self._claims.ended(self._in_flight):
            self.release(event_id)


def is_too_large(error: RPCError) -> bool:
    """Whether Temporal refused a start for the size of what the event brought. Every other refusal may be
    the installation's fault."""
    said = error.message.lower()
    return error.status is RPCStatusCode.INVALID_ARGUMENT and "size" in said and "exceeds" in said


def _named(error: Exception) -> str:
    """An error for the log; of Temporal, what it said."""
    if isinstance(error, RPCError):
        return f"{error.status.name.lower()}: {error.message}"
    return type(error).__name__


def _clock() -> float:
    return asyncio.get_running_loop().time()
