"""Headers that tell browsers what an answer may do, on every answer of an API process.

A route that sets one of them itself keeps its own.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The APIs answer with data, never with a page: nothing in an answer may load, run or be framed.
DATA_ONLY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", DATA_ONLY.encode()),
)
# Answers hold credentials that are shown once, and payloads.
_OF_DATA = (b"cache-control", b"no-store")
# A year, which is what browsers take for good.
_OF_HTTPS = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """Adds the headers that an answer lacks. `https`: the public URL is, so that browsers never use
    another."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = (*_ALWAYS, _OF_HTTPS) if https else _ALWAYS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message["headers"])
                names = {name.lower() for name, _ in given}
                given += [each for each in self._headers if each[0] not in names]
                if (b"content-type", b"application/json") in given and _OF_DATA[0] not in names:
                    given.append(_OF_DATA)
                message["headers"] = given
            await send(message)

        await self._app(scope, receive, with_headers)
