"""What a process says about a part that is away."""

import logging

import pytest

from app.core import outages
from app.core.outages import Outage


def test_an_outage_is_said_when_it_begins_each_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr(outages.time, "monotonic", lambda: moment)
    outage = Outage(logging.getLogger("test"), "waits", environment="e")
    outage.is_over()
    for second in range(150):
        moment = 1000.0 + second
        outage.goes_on(error="Gone")
    outage.is_over()
    outage.is_over()
    assert [record.message for record in caplog.records] == ["waits"] * 3 + ["waits_no_more"]
    assert caplog.records[2].__dict__["for_seconds"] == 120
    assert caplog.records[3].__dict__["after_seconds"] == 149
    outage.goes_on()
    assert caplog.records[-1].message == "waits"
