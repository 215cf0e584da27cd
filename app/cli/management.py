"""The Management API as the command line calls it: over HTTP, with a service token, errors with the next
step."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from app.core.errors import CommandError
from app.core.settings import Settings
from app.stack.keys import admin_token_path

TIMEOUT = 30.0


class Unavailable(CommandError):
    """Nobody answers, or not now: the same may work later."""


class ManagementClient:
    """Calls one Doorbell's Management API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, **parameters: Any) -> Any:
        """The answer's JSON.

        Raises:
            CommandError: it was refused, or nobody answers.
        """
        return self._call("GET", path, parameters)

    def put(self, path: str, body: dict[str, Any], **parameters: Any) -> Any:
        """The answer's JSON. Raises as `get` does."""
        return self._call("PUT", path, parameters, body)

    def post(self, path: str, body: dict[str, Any], **parameters: Any) -> Any:
        """The answer's JSON. Raises as `get` does."""
        return self._call("POST", path, parameters, body)

    @contextmanager
    def events(self, path: str, last_event_id: str, **parameters: Any) -> Iterator[Iterator[Any]]:
        """The JSON of each server-sent event after the last one, as they come, until the stream ends.

        Raises:
            Unavailable: the stream breaks off, or cannot begin now.
            CommandError: it was refused.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        headers = {"last-event-id": last_event_id}
        try:
            with self._http.stream("GET", path, params=given, headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _refused(answer)
                lines = (line for line in answer.iter_lines() if line.startswith("data: "))
                yield (json.loads(line.removeprefix("data: ")) for line in lines)
        except httpx.TransportError as error:
            raise self._nobody_answers(error) from None

    def _nobody_answers(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"nobody answers at {self._http.base_url} ({error}). Start Doorbell with `doorbell dev` or "
            "`doorbell api`, or name another one with --url"
        )

    def _call(self, method: str, path: str, parameters: dict[str, Any], body: Any = None) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            answer = self._http.request(method, path, params=given, json=body)
        except httpx.TransportError as error:
            raise self._nobody_answers(error) from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refused(answer)


def source_path(key: str, *parts: str) -> str:
    """The path of a source, or of something of it, whatever characters people write."""
    return "/".join(quote(each, safe="") for each in ("", "v1", "sources", key, *parts))


@contextmanager
def management_client(
    settings: Settings, url: str | None, token: str | None, timeout: float = TIMEOUT
) -> Iterator[ManagementClient]:
    """A client of `url` (else where the settings say the API is) with `token` (else the bootstrap token).

    Raises:
        CommandError: no token is given, set or kept.
    """
    headers = {"authorization": f"Bearer {token or bootstrap_token(settings)}"}
    with httpx.Client(base_url=url or settings.base_url, headers=headers, timeout=timeout) as http:
        yield ManagementClient(http)


def bootstrap_token(settings: Settings) -> str:
    """The service token that is set, or that `doorbell dev` keeps.

    Raises:
        CommandError: there is none.
    """
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    kept = admin_token_path(settings.data_dir)
    if kept.exists():
        return kept.read_text().strip()
    raise CommandError(
        "no service token: give --token, set DOORBELL_ADMIN_TOKEN, or run this where `doorbell dev` keeps "
        "its "
        f"data ({kept} is not there)"
    )


def _refused(answer: httpx.Response) -> CommandError:
    return (Unavailable if answer.status_code == 503 else CommandError)(_refusal(answer))


def _refusal(answer: httpx.Response) -> str:
    """What the API said, with a line for each field that is wrong."""
    try:
        body = answer.json()
        message, errors = body["message"], body.get("errors") or []
    except (ValueError, KeyError, TypeError):
        return f"{answer.request.url} answered {answer.status_code}, and not as Doorbell does"
    lines = [f"{answer.status_code} {message}"]
    # The message says what is wrong with a single field.
    if len(errors) > 1:
        lines += [f"  {each['field']}: {each['message']}" for each in errors]
    if answer.status_code == 401:
        lines.append("  make a token with `doorbell token create --name cli --scope write`")
    if answer.status_code == 404:
        lines.append(
            "  `doorbell sources` lists the sources, `doorbell events SOURCE` the event types of one, "
            "`doorbell logs SOURCE` its events"
        )
    return "\n".join(lines)
