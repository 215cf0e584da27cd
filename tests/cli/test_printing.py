"""How commands print and ask."""

from io import StringIO

import pytest
from rich.console import Console

from app.cli.printing import agrees


@pytest.mark.parametrize(("answer", "is_agreed"), [("y", True), (" YES ", True), ("", False), ("n", False)])
def test_a_question_shows_what_to_answer(
    monkeypatch: pytest.MonkeyPatch, answer: str, is_agreed: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda: answer)
    said = StringIO()
    assert agrees(Console(file=said, force_terminal=True), "Replay 2 events of [shop]?") is is_agreed
    assert said.getvalue() == "Replay 2 events of [shop]? [y/N] "
