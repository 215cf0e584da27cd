"""The setup pages in docs/sources, one for each provider, written from its declaration.

`python -m app.providers.setup_pages` writes them; a test says when it has to be run.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from app.providers.base import DefaultMapping, Kind, Provider, SetupStep
from app.providers.registry import providers

DIRECTORY = Path(__file__).parents[2] / "docs" / "sources"
INDEX = "README.md"
INACTIVE = "inactive"

KINDS: dict[Kind, str] = {
    "webhook": "Webhooks",
    "cdp": "Customer data platforms",
    "reverse_etl": "Reverse ETL",
}

_COMMANDS = """\
With `make run` up, the source, its ingestion URL and its secret from the command line
(`TOKEN` is a service token):

```sh
TOKEN=$(cat .doorbell/admin-token)

curl -s -X PUT 'http://127.0.0.1:8080/v1/sources/{slug}?environment=development' \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{source}'
"""
_URL_COMMAND = """
# The URL to give to the sender is `environment_settings.development.settings.endpoint`:
curl -s 'http://127.0.0.1:8080/v1/sources/{slug}?environment=development' -H "Authorization: Bearer $TOKEN"
"""
_SECRET_COMMAND = """
curl -s -X POST 'http://127.0.0.1:8080/v1/sources/{slug}/secrets?environment=development' \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{{"secret": {{"value": "{placeholder}"}}}}'
"""
_KEY_COMMAND = """
# A source key, shown this once:
curl -s -X POST 'http://127.0.0.1:8080/v1/sources/{slug}/keys?environment=development' \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{{"key": {{"name": "{name}"}}}}'
"""
_ENFORCE_COMMAND = """
curl -s -X PUT 'http://127.0.0.1:8080/v1/sources/{slug}?environment=development' \\
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{source}'
"""
_LOG_COMMAND = """
# What came, whether it was verified, and which actions it ran:
curl -s 'http://127.0.0.1:8080/v1/sources/{slug}/logs?environment=development&include=actions' \\
  -H "Authorization: Bearer $TOKEN"
```"""

_ANSWERS = """\
| Answer | What it means |
| --- | --- |
| {accepted} | The event is stored and durable. Its actions run afterwards: if one fails, we retry it, and the sender never sees it. An event without a mapping, or without an event type, is accepted too, and the log says so. |
| 400 | The body is not JSON, or not of the shape that a source takes. Sending it again does not help. |
| 401 | Verification is enforced and failed. The answer and the log say why. |
| 404 | No source has this URL: it was mistyped, or the endpoint was rotated. |
| 413 | The body is larger than the limit (1 MiB unless configured). |
| 429, 503 | Too much at once, or the database is away. `Retry-After` says when to come back; nothing was stored. |
"""  # noqa: E501  (a row of a Markdown table is one line)


def write_pages(directory: Path = DIRECTORY) -> None:
    """Write the page of each provider and the index, and remove pages of providers that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text)
    for path in directory.glob("*.md"):
        if path.name not in pages():
            path.unlink()


def pages() -> dict[str, str]:
    """All pages by file name."""
    found = {f"{provider.key}.md": page(provider) for provider in providers().values()}
    return {**found, INDEX: index()}


def index() -> str:
    """The page that lists the others."""
    sections = [
        "# Sources",
        (
            "One page for each kind of source: how to connect it, step by step, how its events are verified "
            "and identified, what it does by default, and how the sender takes our answers. Other services "
            "connect as [Custom HTTP](custom_http.md) or, if they follow the specification, as [Standard "
            "Webhooks](standard_webhooks.md)."
        ),
    ]
    for kind, title in KINDS.items():
        rows = [
            (
                f"[{each.name}]({each.key}.md)",
                ", ".join(each.categories),
                _verified_with(each),
                f"`{each.event_type_path}`",
            )
            for each in providers().values()
            if each.kind == kind
        ]
        if rows:
            sections += [f"## {title}", _table(("Source", "Category", "Verified with", "Event type"), rows)]
    sections.append(
        "These pages are written from `app/providers/` by `python -m app.providers.setup_pages`. To add a "
        "kind of source, "
        "write its declaration there and its cases in `tests/providers/cases/`; the conformance suite, the "
        "API and these pages follow."
    )
    return _joined(sections)


def page(provider: Provider) -> str:
    """A provider's setup page."""
    return _joined(
        [
            f"# {provider.name}",
            (
                f"<!-- Written from app/providers/{provider.key}.py by `python -m "
                "app.providers.setup_pages`. Do "
                "not edit. -->"
            ),
            f"{provider.description} {_links(provider)}",
            "## Connect it",
            _steps(provider),
            _commands(provider),
            "## How events are verified",
            *_verification(provider),
            "## What is read from an event",
            *_reading(provider),
            "## Event types and default mappings",
            *_mappings(provider),
            "## Delivery",
            *_delivery(provider),
            *(["## Good to know", _list(provider.notes)] if provider.notes else []),
        ]
    )


def _links(provider: Provider) -> str:
    links = {
        provider.name: provider.website_url,
        "its documentation of webhooks": provider.webhook_docs_url,
        "where to configure them": provider.webhook_config_deep_link,
        "Knock's page on this source": provider.knock_tutorial_url,
    }
    shown = {url: f"[{label}]({url})" for label, url in links.items() if url}
    return f"See {', '.join(shown.values())}."


def _steps(provider: Provider) -> str:
    sides = {"vendor": provider.name if provider.website_url else "Your service", "doorbell": "Doorbell"}
    create = SetupStep(f"Create a source of the kind `{provider.key}` and copy its URL.", "doorbell")
    return "\n".join(
        f"{number}. **{sides[step.where]}:** {step.text}"
        for number, step in enumerate((create, *provider.setup), start=1)
    )


def _commands(provider: Provider) -> str:
    slug = provider.key.replace("_", "-")
    source = {"name": provider.name, "preconfigured_provider": provider.key}
    commands = _COMMANDS.format(slug=slug, source=_source_as_json(source)) + _URL_COMMAND.format(slug=slug)
    if provider.secret is not None:
        placeholder = provider.secret.placeholder or "the-secret"
        commands += _SECRET_COMMAND.format(slug=slug, placeholder=placeholder)
    if provider.secret is not None and not provider.enforce_verification:
        settings = {"development": {"settings": {"enforce_verification": True}}}
        enforced = _source_as_json({"name": provider.name, "environment_settings": settings})
        commands += _ENFORCE_COMMAND.format(slug=slug, source=enforced)
    if any(step.issues_key for step in provider.setup):
        commands += _KEY_COMMAND.format(slug=slug, name=provider.name)
    return commands + _LOG_COMMAND.format(slug=slug)


def _source_as_json(source: dict[str, Any]) -> str:
    return orjson.dumps({"source": source}).decode()


def _verified_with(provider: Provider) -> str:
    if provider.secret is None:
        return "nothing"
    optional = "" if provider.enforce_verification else ", if you want"
    return f"{provider.secret.label[0].lower()}{provider.secret.label[1:]}{optional}"


def _verification(provider: Provider) -> Iterator[str]:
    if provider.scheme is None or provider.secret is None:
        yield "Its events are not verified: the URL is the secret."
        return
    issuer = provider.name if provider.secret.issued_by == "vendor" else "you"
    yield f"**{provider.secret.label}** (made by {issuer}): {provider.secret.help}"
    yield _list(provider.scheme.explain())
    if provider.enforce_verification:
        yield (
            "A new source enforces verification: what does not verify is answered with 401 "
            "and logged as `rejected`."
        )
    else:
        yield (
            f"A new source does **not** enforce verification, because {provider.name} sends no secret unless "
            "you set one up. Until you add a secret and turn `enforce_verification` on, the URL is the "
            "secret, and the log says `not_enforced`."
        )
    if provider.handshakes:
        yield "Before they send, some services ask the URL. It answers these handshakes:"
        yield _list(each.explain() for each in provider.handshakes)
    yield (
        "To rotate, add the new secret beside the old one: whatever either of them signed is accepted until "
        "you remove the old one or it expires. Secrets are encrypted at rest and never shown again."
    )


def _reading(provider: Provider) -> Iterator[str]:
    paths = {
        "Event type": provider.event_type_path,
        "Idempotency key": provider.idempotency_key_path,
        "Ordering key": provider.ordering_key_path,
        "Time": provider.timestamp_path,
    }
    yield _table(
        ("What", "Path at first"),
        [(what, f"`{path}`" if path else "not set") for what, path in paths.items()],
    )
    computed = _computed(provider)
    if computed:
        yield "Computed from the event, for mappings to read:"
        yield _table(("Path", "For example"), computed)
    if provider.sensitive_paths:
        yield "Never mapped and never shown, because they are secrets of the vendor's:"
        yield _list(f"`{path}`" for path in provider.sensitive_paths)


def _computed(provider: Provider) -> list[tuple[str, str]]:
    """Every key of `preprocess`, with a value from the provider's examples that has one."""
    if provider.preprocess is None:
        return []
    found: dict[str, Any] = {}
    for examples in provider.examples.values():
        for example in examples:
            for name, value in provider.preprocess(
                provider.event_body(example), dict(example.headers)
            ).items():
                found[name] = value if found.get(name) is None else found[name]
    return [(f"`preprocess.{name}`", f"`{orjson.dumps(value).decode()}`") for name, value in found.items()]


def _mappings(provider: Provider) -> Iterator[str]:
    if provider.default_mappings:
        yield (
            "A new source starts with these. Change them as you like; every other event type "
            "can be mapped too."
        )
        yield _table(
            ("Event type", "Action", "Starts", "Parameters"),
            [
                (f"`{each.event_type}`", f"`{each.action_type}`", _start(each), _parameters(each))
                for each in provider.default_mappings
            ],
        )
        if any(_start(each) == INACTIVE for each in provider.default_mappings):
            yield (
                "Mappings that delete or remove start **inactive**: what they take away cannot be brought "
                "back. Turn them on in the source's mappings if you want them."
            )
    else:
        yield "A new source maps nothing: add mappings for the event types that you need."
    if provider.implicit_mappings:
        yield "These run as long as the source has no mapping of their event type, active or not:"
        yield _table(
            ("Event type", "Action", "Parameters"),
            [
                (f"`{each.event_type}`", f"`{each.action_type}`", _parameters(each))
                for each in provider.implicit_mappings
            ],
        )
    event_type, (example, *_) = next(iter(provider.examples.items()))
    yield f"An event of the type `{event_type}`, as {provider.name} sends it:"
    headers = [f"{name}: {value}" for name, value in example.headers.items()]
    body = orjson.dumps(example.body, option=orjson.OPT_INDENT_2).decode()
    yield "\n".join(["```http", "POST /integrations/receive/<token> HTTP/1.1", *headers, "", body, "```"])
    others = [f"`{each}`" for each in provider.examples if each != event_type]
    if others:
        yield (
            f"Examples of {', '.join(others)} are in the API: `GET /v1/source_providers/{provider.key}"
            "?include=example_payloads`."
        )


def _start(mapping: DefaultMapping) -> str:
    return "active" if mapping.starts_active else INACTIVE


def _parameters(mapping: DefaultMapping) -> str:
    return "<br>".join(f"`{name}`: `{_template(value)}`" for name, value in mapping.action_parameters.items())


def _template(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _delivery(provider: Provider) -> Iterator[str]:
    yield _table(
        ("Of the sender", ""),
        [
            ("It waits for an answer", provider.sending.timeout),
            ("It takes for success", provider.sending.success),
            ("It tries again", provider.sending.retries),
        ],
    )
    accepted = "204" if provider.success_status == 204 else '200 `{"success": true, "id": "<event id>"}`'
    yield _ANSWERS.format(accepted=accepted).rstrip()
    if provider.idempotency_key_path:
        yield (
            f"A repeated delivery has the same `{provider.idempotency_key_path}`: within the idempotency "
            "window (24 hours unless configured) it is logged as `idempotent` and runs no action twice."
        )
    else:
        yield (
            "There is no idempotency key at first: a repeated delivery is another event "
            "and runs its actions again."
        )


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_pages()
