"""What a provider is: one declaration that drives verification, defaults, API answers, setup pages and tests.

To add one, write `app/providers/<key>.py` with a module-level `provider = Provider(...)`; the registry finds
it. `tests/providers/cases/<key>.py` holds what the conformance suite cannot derive, and
`docs/sources/<key>.md` is generated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from app.providers.handshakes import Handshake
from app.providers.verification import Scheme

Category = Literal["Billing", "Infrastructure", "Analytics", "CRM", "Ecommerce", "Communications", "Identity"]
# How it sends: one event in a request, a stream of tracking calls, or rows of a warehouse.
Kind = Literal["webhook", "cdp", "reverse_etl"]
Preprocess = Callable[[Any, dict[str, str]], dict[str, Any]]
OrderingKeys = Callable[[Any, dict[str, str]], Sequence[Any]]
Split = Callable[[bytes, Any], Sequence[bytes] | None]

# Where the keys are that a provider or a script computes.
ORDERING_KEYS_PATH = "preprocess.ordering_keys"


# Actions that take away what the destination has, which nothing brings back.
DESTRUCTIVE = frozenset({"users_delete", "objects_delete", "tenants_delete", "audiences_remove_member"})


@dataclass(frozen=True)
class DefaultMapping:
    """A mapping that a new source starts with."""

    event_type: str
    action_type: str
    action_parameters: dict[str, Any]
    # Where the payload carries the whole object and the vendor documents no order.
    skip_older: bool = False

    @property
    def starts_active(self) -> bool:
        """Whether it runs before a person turned it on."""
        return self.action_type not in DESTRUCTIVE


@dataclass(frozen=True)
class Example:
    """An event as the provider sends it, unsigned."""

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True)
class SecretField:
    """The secret that both sides know. `issued_by` says who makes it up: the vendor, or the person who sets
    up."""

    label: str
    help: str
    placeholder: str = ""
    issued_by: Literal["vendor", "you"] = "vendor"


@dataclass(frozen=True)
class SetupStep:
    """Something a person does to connect the vendor, in the vendor's product or in Doorbell.

    Where one `issues_key`, the setup leads to the card that issues source keys.
    """

    text: str
    where: Literal["vendor", "doorbell"]
    issues_key: bool = False

    def __str__(self) -> str:
        return self.text


def there(text: str) -> SetupStep:
    """A step in the vendor's product."""
    return SetupStep(text, "vendor")


def here(text: str) -> SetupStep:
    """A step in Doorbell."""
    return SetupStep(text, "doorbell")


@dataclass(frozen=True)
class Sending:
    """How the vendor delivers, in words for people. Where the vendor does not say, the words say so."""

    timeout: str
    retries: str
    success: str = "any 2xx"


@dataclass(frozen=True)
class Tracking:
    """That the vendor's libraries can be pointed at `app/api/tracking.py`, and the bytes that they may
    send."""

    maximum_event: int = 32 * 1024
    maximum_batch: int = 500 * 1024


@dataclass(frozen=True)
class Provider:
    """A kind of source.

    `preprocess(body, headers)` computes what paths alone cannot reach; its result is `preprocess.*`. It may
    raise on bodies it does not know: the event is then processed without it, and the reason is logged.
    `implicit_mappings` run where the source has no mapping of their event type: their actions are not part of
    Knock's contract, so no answer of the API may hold them before somebody asks for them.
    `split(body, decoded)` gives the bodies of the events in a delivery of many, None for a delivery of one.
    `ordering_key_path` is what its sources are ordered by at first. One key may be in several places, or an
    event have several: then `ordering_keys(body, headers)` computes them, and the path is
    ORDERING_KEYS_PATH. It may raise on bodies it does not know, and return None among the keys.
    `handshakes` are answered at the ingestion URL.
    `optional_paths` are default paths of key and time that not every event has: that is not said of each.
    `sensitive_paths` lead to values of the body that are never mapped and never shown. `success_status`
    answers an accepted event; 204 has no body. `notes` are for the setup page: what surprises people with
    this vendor. `script` is where people begin who write one for this provider: it does what a source without
    a script does.
    """

    key: str
    name: str
    description: str
    categories: tuple[Category, ...]
    website_url: str | None
    webhook_docs_url: str
    event_type_path: str
    idempotency_key_path: str | None
    timestamp_path: str | None
    scheme: Scheme | None
    secret: SecretField | None
    default_mappings: tuple[DefaultMapping, ...]
    examples: dict[str, tuple[Example, ...]]
    setup: tuple[SetupStep, ...]
    sending: Sending
    kind: Kind = "webhook"
    enforce_verification: bool = True
    ordering_key_path: str | None = None
    ordering_keys: OrderingKeys | None = None
    implicit_mappings: tuple[DefaultMapping, ...] = ()
    preprocess: Preprocess | None = None
    split: Split | None = None
    tracking: Tracking | None = None
    handshakes: tuple[Handshake, ...] = ()
    script: str | None = None
    webhook_config_deep_link: str | None = None
    knock_tutorial_url: str | None = None
    optional_paths: tuple[str, ...] = ()
    sensitive_paths: tuple[str, ...] = ()
    success_status: Literal[200, 204] = 200
    notes: tuple[str, ...] = ()
    version: str = "1.0.0"

    def event_body(self, example: Example) -> dict[str, Any]:
        """The body of the event in an example, the first one when the example is a batch."""
        bodies = self.split(orjson.dumps(example.body), example.body) if self.split else None
        body: dict[str, Any] = orjson.loads(bodies[0]) if bodies else example.body
        return body


def find_id(value: Any) -> Any:
    """The id in a reference to something, which is the id or an object that has it."""
    return value.get("id") if isinstance(value, dict) else value
