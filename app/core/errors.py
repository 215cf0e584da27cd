"""What can go wrong, by type.

DoorbellError
├── Rejected            the sender's fault: answered with a status, never retried
├── Retryable           later: Temporal tries again, after `retry_after` when the far side named a time
├── Permanent           the operator must act: recorded, shown, not retried
├── RequestError        an API caller's fault, with Knock's error body
├── ConfigurationError  a process cannot start; the message says what to set
└── CommandError        a command cannot do what it was asked; the message says what to do
"""

from dataclasses import dataclass

# What is stored of what a destination or another server said.
MAXIMUM_ERROR_LENGTH = 2000


class DoorbellError(Exception):
    """Root of all errors that Doorbell raises on purpose."""


class Rejected(DoorbellError):
    """A sender's request that is refused, with the HTTP status and Knock's error `code`."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Retryable(DoorbellError):
    """Something that may work later. `retry_after` is in seconds."""

    def __init__(self, message: str, *, code: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Permanent(DoorbellError):
    """Something that will fail the same way each time, until a person changes something."""


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a request: the field as a path, and why."""

    field: str
    message: str


class RequestError(DoorbellError):
    """An API request that is refused. Rendered as Knock's error body by `app.api.errors`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.errors = errors or []
        self.headers = headers or {}


class ConfigurationError(DoorbellError):
    """A process that cannot start as configured."""


class CommandError(DoorbellError):
    """A command that cannot do what it was asked; the message says what to do."""


class Refused(Permanent):
    """The destination said no. The text is its own, `code` that of Knock's error body."""

    def __init__(self, message: str, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def capped(text: str) -> str:
    """What a destination said, as much of it as is stored."""
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]


class InvalidTemplate(ValueError):
    """A template that cannot be parsed; the message says why."""
