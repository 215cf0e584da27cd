"""How the Management API reads requests: every body is JSON, bounded, and can be stored."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.api.management.dependencies import admit
from app.api.request import DirectoryRequest
from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.models.types import new_id


class ManagementRoute(APIRoute):
    """A route whose body is JSON whatever its Content-Type says: `curl -d` names another. It is read once
    the caller is known."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            headers = [each for each in request.scope["headers"] if each[0] != b"content-type"]
            scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
            request = DirectoryRequest(scope, request.receive)
            await admit(request)
            for name, value in request.path_params.items():
                if "\x00" in str(value):
                    raise invalid_fields([FieldError(name, "contains the character U+0000")])
            if await request.body():
                # Before FastAPI does, which would hide what is wrong behind an answer of its own.
                await request.json()
            response = await handle(request)
            response.headers["x-request-id"] = str(new_id())
            return response

        return handler
