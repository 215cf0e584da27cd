"""What the conformance suite cannot derive from a provider's declaration. One file for each in `cases/`."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.providers.verification import Headers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Vector:
    """A delivery whose signature somebody else computed, at `NOW` unless given."""

    secret: str
    body: bytes
    headers: Headers
    at: datetime = NOW


@dataclass(frozen=True)
class Outcome:
    """What an example is identified as, and what the default mappings make of it, in the order of
    execution."""

    idempotency_key: str | None = None
    occurred_at: datetime | None = NOW
    actions: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(frozen=True)
class Case:
    """A provider's cases.

    `secrets`: two that are of the vendor's form. `unusable`: texts that are not. `outcomes`: by the example's
    event type. `several`: one delivery that carries the signatures of two. `vendor_verifies` raises when the
    vendor's own library refuses; `vendor_signs(body, secret, moment)` gives the headers that it makes.
    """

    secrets: tuple[str, str]
    outcomes: dict[str, Outcome]
    unusable: tuple[str, ...] = ()
    several: Callable[[Headers, Headers], Headers] | None = None
    vectors: tuple[Vector, ...] = ()
    vendor_verifies: Callable[[bytes, Headers, str], object] | None = None
    vendor_signs: Callable[[bytes, str, datetime], Headers] | None = None
    bad_bodies: dict[str, Any] = field(default_factory=dict)


def case_of(provider: str) -> Case:
    """The cases of a provider."""
    found: Case = importlib.import_module(f"tests.providers.cases.{provider}").case
    return found


def joined(header: str, separator: str) -> Callable[[Headers, Headers], Headers]:
    """Two signatures in one header, the rest as in the first delivery."""
    return lambda first, second: {**first, header: f"{first[header]}{separator}{second[header]}"}
