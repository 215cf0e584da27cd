"""What a provider is: one declaration that drives verification, defaults, API answers, examples and tests.

To add one, write `app/providers/<key>.py` with a module-level `provider = Provider(...)`; the registry finds it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from app.verification import Scheme

Category = Literal["Billing", "Infrastructure", "Analytics", "CRM", "Ecommerce", "Communications", "Identity"]
Preprocess = Callable[[Any, dict[str, str]], dict[str, Any]]


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
    `script` is where people begin who write one for this provider: it does what a source without a script does.
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
    script: str | None = None
    webhook_config_deep_link: str | None = None
    version: str = "1.0.0"
