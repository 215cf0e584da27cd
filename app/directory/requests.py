"""Requests of fetch and webhook steps, rendered."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from app.core.errors import Permanent
from app.directory.definition import RequestTemplate
from app.directory.recipients import Json
from app.outbound.http import Outgoing
from app.scripting.templates import Template, Templates
from app.scripting.turns import Owner

_BODYLESS = frozenset({"get"})


@dataclass(frozen=True)
class RenderedRequest:
    """A request as rendered, which a message keeps and each attempt sends unchanged."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    query: list[tuple[str, str]]
    body: str | None

    def as_content(self) -> Json:
        return {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "query_params": self.query,
            "body": self.body,
        }

    @classmethod
    def from_content(cls, content: Json) -> "RenderedRequest":
        return cls(
            content["method"],
            content["url"],
            [(name, value) for name, value in content["headers"]],
            [(name, value) for name, value in content["query_params"]],
            content["body"],
        )

    def outgoing(self, more_headers: dict[str, str] | None = None) -> Outgoing:
        """For `app.outbound.http`. A body is JSON unless a header says otherwise."""
        headers = [*self.headers, *(more_headers or {}).items()]
        if self.body is not None and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("content-type", "application/json"))
        body = None if self.body is None else self.body.encode()
        return Outgoing(self.method.upper(), self.url, headers, self.query, body)


async def outgoing(
    template: RequestTemplate, scope: dict[str, Any], templates: Templates, owner: Owner
) -> RenderedRequest:
    """Render a request.

    Raises:
        Permanent: a template cannot be rendered, or the data would send the request elsewhere.
        Busy: too many templates wait.
    """
    body = template.body if template.method not in _BODYLESS else None
    sources = [
        template.url,
        *(each.value for each in template.headers),
        *(each.value for each in template.query_params),
        *([] if body is None else [body]),
    ]
    texts = iter(await templates.render([Template(each) for each in sources], scope, owner))
    url = next(texts).strip()
    if _place(url) != _place(template.url):
        raise Permanent("the data would change the host of the URL")
    return RenderedRequest(
        template.method,
        url,
        [(each.key, _one_line(next(texts))) for each in template.headers],
        [(each.key, next(texts)) for each in template.query_params],
        None if body is None else next(texts),
    )


def _place(url: str) -> tuple[str, str]:
    """Scheme, host and port. A template's end where its path or query begins."""
    try:
        parts = urlsplit(url.partition("{")[0])
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _one_line(value: str) -> str:
    """Headers are one line each, whatever the data holds."""
    return " ".join(value.split())
