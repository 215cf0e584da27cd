"""Emails by themselves: the way to the server, and the text made from HTML."""

import pytest
from pydantic import SecretStr

from app.core.errors import Permanent, Retryable
from app.core.settings import Settings
from app.outbound.email import Email, single_address
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


INJECTED = "=?utf-8?q?hi=0D=0ABcc:_evil=40example.com=0D=0A?="


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": INJECTED},
        {"subject": f"x {INJECTED} y"},
        {"subject": "=?utf-8?b?aGkNCkJjYzogZXZpbEBleGFtcGxlLmNvbQ==?="},
        {"subject": "=?utf-8?q?=3D=3Futf-8=3Fq=3F=0D=0ABcc=3A_e=40x=3F=3D?="},
        {"subject": "=?utf-8 ?q?hi=0D=0ABcc:_e=40x?="},
        {"subject": "a\x00b"},
        {"subject": "a\x1bb"},
        {"sender_name": INJECTED},
        {"sender_name": f'"{INJECTED}"'},
        {"to": f"{INJECTED} <b@example.com>"},
        {"cc": f'"{INJECTED}" <c@example.com>'},
        {"reply_to": f"{INJECTED} <c@example.com>"},
        {"sender": "a@example.com, b@example.com"},
        {"sender": "a@example.com\x00"},
        {"to": "b@example.com\x0b@example.com"},
    ],
)
async def test_no_header_makes_another(settings: Settings, mails: MailServer, fields: dict[str, str]) -> None:
    """Not on any Python: some write what an encoded word holds as it is."""
    with pytest.raises(Permanent):
        await Mailer(settings).send(Email(**{**vars(EMAIL), **fields}), message_id="m")
    assert mails.attempts == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("two\r\nlines", "two lines"),
        ("=?not an encoded word?=", "=?not an encoded word?="),
        ("💥" * 200, "💥" * 200),
    ],
)
async def test_subjects_arrive_as_they_read(
    settings: Settings, mails: MailServer, given: str, sent: str
) -> None:
    await Mailer(settings).send(Email(**{**vars(EMAIL), "subject": given}), message_id="m")
    [mail] = mails.mails
    assert mail.message["Subject"] == sent
    assert set(mail.message.keys()) <= {
        *("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "X-Peer"),
        *("X-MailFrom", "X-RcptTo"),
    }


@pytest.mark.parametrize(
    ("email", "is_one"),
    [("a@x.example", True), (" a@x.example ", True), ("a@x.example, b@y.example", False)]
    + [(each, False) for each in ("Ada <a@x.example>", "a@x.example;b@y", "a", "a@x\r\nBcc: b@y", "<a@x>")],
)
def test_a_user_has_one_address(email: str, is_one: bool) -> None:
    if is_one:
        assert single_address(email, "email") == "a@x.example"
    else:
        with pytest.raises(Permanent):
            single_address(email, "email")
