"""What keeps the processes of `doorbell dev` running and stops them, with small real children."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError
from app.stack import ports
from app.stack.service import Service, stop_leftovers
from app.stack.supervisor import Interrupted, Supervisor
from app.stack.terminal import Terminal
from tests.stack.parents import forget_parent

SERVER = """
import http.server, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready to serve", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CRASH = "import sys; print('cannot go on', flush=True); sys.exit(3)"


class Screen:
    """A terminal that remembers what was shown."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self.terminal = Terminal(self._text, width=200)

    def lines(self) -> list[str]:
        return self._text.getvalue().splitlines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path, screen: Screen) -> Make:
    def make(name: str, script: str, *arguments: str) -> Service:
        screen.terminal.introduce(name)
        port = ports.find_free("127.0.0.1", 1)[0]
        return Service(
            name=name,
            arguments=[sys.executable, "-c", script, str(port), *arguments],
            environment=os.environ,
            log=tmp_path / f"{name}.log",
            record=tmp_path / f"{name}.json",
            address=("127.0.0.1", port),
            on_line=screen.terminal.line,
        )

    return make


def run(supervisor: Supervisor, *services: Service, patience: float = 60.0) -> None:
    supervisor.add(*services, patience=patience)
    for service in services:
        service.start()
    assert supervisor.wait(lambda: all(service.is_ready() for service in services), seconds=60)


def test_lines_are_shown_in_columns_and_logged(make: Make, screen: Screen) -> None:
    short, long = make("api", SERVER), make("worker-production", SERVER)
    with Supervisor(screen.terminal) as supervisor:
        run(supervisor, short, long)
    assert "api               | ready to serve" in screen.lines()
    assert "worker-production | ready to serve" in screen.lines()
    assert short.log.read_text() == "ready to serve\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(make: Make, screen: Screen, number: signal.Signals) -> None:
    service = make("api", SERVER)
    before = signal.getsignal(number)
    with Supervisor(screen.terminal) as supervisor:
        run(supervisor, service)
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted):
            supervisor.watch()
    assert service.poll() == -signal.SIGTERM
    assert signal.getsignal(number) == before


def test_who_does_not_stop_is_killed(make: Make, screen: Screen) -> None:
    service = make("api", SERVER, "stubborn")
    with Supervisor(screen.terminal) as supervisor:
        run(supervisor, service, patience=0.2)
    assert service.poll() == -signal.SIGKILL


def test_what_started_last_is_stopped_first(make: Make, screen: Screen) -> None:
    stopped = []

    class Noted(Service):
        def stop(self, patience: float = 10.0) -> None:
            stopped.append(self.name)
            super().stop(patience)

    database, api = make("database", SERVER), make("api", SERVER)
    database.__class__ = api.__class__ = Noted
    with Supervisor(screen.terminal) as supervisor:
        run(supervisor, database)
        run(supervisor, api)
    assert stopped == ["api", "database"]


def test_who_ends_is_started_again(make: Make, screen: Screen) -> None:
    service = make("api", SERVER)
    with Supervisor(screen.terminal, first_pause=0.01) as supervisor:
        run(supervisor, service)
        service.kill()
        deadline = time.monotonic() + 60
        supervisor.watch(
            lambda: len(service.log.read_text().splitlines()) == 2 or time.monotonic() > deadline
        )
    assert "api was killed by SIGKILL; starting it again in 0.01 s" in screen.lines()
    assert service.log.read_text() == "ready to serve\n" * 2


def test_who_ends_again_and_again_is_given_up(make: Make, screen: Screen) -> None:
    good, bad = make("api", SERVER), make("worker", CRASH)
    words = r"worker ended with code 3, 5 times in a row(.|\n)*cannot go on"
    with Supervisor(screen.terminal, first_pause=0.01) as supervisor:
        run(supervisor, good)
        supervisor.add(bad, patience=1)
        bad.start()
        with pytest.raises(ConfigurationError, match=words):
            supervisor.watch()
    assert bad.log.read_text() == "cannot go on\n" * 5
    assert good.poll() is not None


def test_who_ends_while_starting_is_named_with_its_words(make: Make, screen: Screen) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"worker ended with code 3(.|\n)*cannot go on"),
        Supervisor(screen.terminal) as supervisor,
    ):
        run(supervisor, make("worker", CRASH))


def test_a_leftover_service_is_stopped(make: Make, tmp_path: Path) -> None:
    service = make("api", SERVER)
    service.start()
    forget_parent(service.record)
    stop_leftovers(tmp_path)
    assert service.poll() == -signal.SIGTERM
    service.stop()


def test_a_terminal_that_went_away_stops_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as gone:
        terminal = Terminal(gone)
        for _ in range(2):
            terminal.say("anybody there?")
