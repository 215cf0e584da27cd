"""What a provider is: one declaration that drives verification, defaults, API answers, examples and tests.

To add one, write `app/providers/<key>.py` with a module-level `provider = Provider(...)`; the registry finds it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.verification import Scheme

Category = Literal["Billing", "Infrastructure", "Analytics", "CRM", "Ecommerce", "Communications", "Identity"]
Preprocess = Callable[[Any, dict[str, str]], dict[str, Any]]
Split = Callable[[bytes, Any], Sequence[bytes] | None]


@dataclass(frozen=True)
class DefaultMapping:
    """A mapping that a new source starts with."""

    event_type: str
    action_type: str
    action_parameters: dict[str, Any]


@dataclass(frozen=True)
class Example:
    """An event as the provider sends it, unsigned."""

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True)
class SecretField:
    """The secret a person copies from the vendor."""

    label: str
    help: str
    placeholder: str = ""


@dataclass(frozen=True)
class Provider:
    """A kind of source.

    `preprocess(body, headers)` computes what paths alone cannot reach; its result is `preprocess.*`. It may
    raise on bodies it does not know: the event is then processed without it, and the reason is logged.
    `split(body, decoded)` gives the bodies of the events in a delivery of many, None for a delivery of one.
    `source_keys`: tools call Knock's API in the name of this source (see `app/source_calls.py`).
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
    setup: tuple[str, ...]
    enforce_verification: bool = True
    preprocess: Preprocess | None = None
    split: Split | None = None
    source_keys: bool = False
    webhook_config_deep_link: str | None = None
    version: str = "1.0.0"
