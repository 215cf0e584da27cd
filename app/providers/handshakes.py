"""What services ask an endpoint before they send to it, and the answers that they want.

A provider declares those that its sources answer (`Provider.handshakes`); `app/api/receive.py` asks them.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

# What is echoed is as long as a challenge is.
MAXIMUM_CHALLENGE = 1024


@dataclass(frozen=True)
class Probe:
    """A request that may be a handshake. `body` is the event of a POST, which passed verification."""

    method: Literal["HEAD", "GET", "POST"]
    query: Mapping[str, str]
    body: Mapping[str, Any] | None = None


class Handshake(Protocol):
    """One service's way to ask."""

    def answer(self, probe: Probe, secrets: Sequence[str]) -> str | None:
        """The text to answer 200 with; None, this is not the handshake."""

    def explain(self) -> str:
        """What is answered, in a sentence for the provider's setup page."""


@dataclass(frozen=True)
class UrlVerification:
    """Slack's Events API: an event of the type `url_verification`, whose challenge is sent back.

    https://docs.slack.dev/reference/events/url_verification/
    """

    def answer(self, probe: Probe, secrets: Sequence[str]) -> str | None:
        if probe.body is None or probe.body.get("type") != "url_verification":
            return None
        return _challenge(probe.body.get("challenge"))

    def explain(self) -> str:
        return (
            '`POST` of `{"type": "url_verification", "challenge": ...}` (Slack): answered with the '
            "challenge, once it passes verification."
        )


@dataclass(frozen=True)
class HubChallenge:
    """Meta's webhooks, and others after WebSub: a GET that names the secret and wants its challenge back.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    """

    def answer(self, probe: Probe, secrets: Sequence[str]) -> str | None:
        if probe.method != "GET" or probe.query.get("hub.mode") != "subscribe":
            return None
        token = probe.query.get("hub.verify_token", "").encode()
        known = [hmac.compare_digest(token, secret.encode()) for secret in secrets]
        return _challenge(probe.query.get("hub.challenge")) if any(known) else None

    def explain(self) -> str:
        return (
            "`GET` with `hub.mode=subscribe` (Meta): answered with `hub.challenge` when `hub.verify_token` "
            "is a secret of this source."
        )


@dataclass(frozen=True)
class HeadProbe:
    """Trello's webhooks: a HEAD that wants 200.

    https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/
    """

    def answer(self, probe: Probe, secrets: Sequence[str]) -> str | None:
        return "" if probe.method == "HEAD" else None

    def explain(self) -> str:
        return "`HEAD` (Trello): answered with 200."


COMMON: tuple[Handshake, ...] = (UrlVerification(), HubChallenge(), HeadProbe())


def answer_of(handshakes: Sequence[Handshake], probe: Probe, secrets: Sequence[str]) -> str | None:
    """The text to answer with; None, it is none of these handshakes."""
    for handshake in handshakes:
        if (text := handshake.answer(probe, secrets)) is not None:
            return text
    return None


def _challenge(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAXIMUM_CHALLENGE else None
