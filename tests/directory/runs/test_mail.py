"""Emails by themselves: the way to the server, and the text made from HTML."""

import pytest
from pydantic import SecretStr

from app.core.errors import Permanent, Retryable
from app.core.settings import Settings
from app.outbound.email import Email
from app.outbound.mail import Mailer
from tests.directory.runs.far import MailServer


@pytest.fixture
def settings(mails: MailServer) -> Settings:
    """No database: a mailer needs none."""
    return Settings(
        _env_file=None,
        smtp_host="127.0.0.1",
        smtp_port=mails.port,
        smtp_security="none",
        smtp_from="a@example.com",
    )


EMAIL = Email(sender="a@example.com", to="b@example.com", subject="Grüße", html="<p>x</p>", text="x")


async def test_without_tls_nothing_is_sent_when_tls_is_asked_for(
    settings: Settings, mails: MailServer
) -> None:
    for security in ("starttls", "tls"):
        mailer = Mailer(settings.model_copy(update={"smtp_security": security}))
        with pytest.raises(Retryable):
            await mailer.send(EMAIL, message_id="m")
    assert mails.attempts == []


async def test_a_login_that_the_server_does_not_take_is_tried_again(
    settings: Settings, mails: MailServer
) -> None:
    mailer = Mailer(settings.model_copy(update={"smtp_username": "u", "smtp_password": SecretStr("p")}))
    with pytest.raises(Retryable):
        await mailer.send(EMAIL, message_id="m")
    assert mails.attempts == []


async def test_without_a_server_it_says_what_to_set(settings: Settings) -> None:
    with pytest.raises(Permanent, match="DOORBELL_SMTP_HOST"):
        await Mailer(settings.model_copy(update={"smtp_host": None})).send(EMAIL, message_id="m")


@pytest.mark.parametrize("address", ["", "nobody", "a@", "<>", "a@b@c"])
async def test_addresses_that_are_none(settings: Settings, mails: MailServer, address: str) -> None:
    with pytest.raises(Permanent):
        await Mailer(settings).send(Email("a@example.com", address, "s", "h", "t"), message_id="m")
    assert mails.attempts == []


async def test_hidden_recipients_get_it_and_are_not_named(settings: Settings, mails: MailServer) -> None:
    email = Email(**{**vars(EMAIL), "to": "Ada <b@example.com>, c@example.com", "bcc": "eve@example.com"})
    await Mailer(settings).send(email, message_id="m1")
    [mail] = mails.mails
    assert mail.recipients == ["b@example.com", "c@example.com", "eve@example.com"]
    assert (mail.message["Subject"], mail.message["Message-ID"]) == ("Grüße", "<m1@example.com>")
    assert "eve" not in mail.message.as_string()
