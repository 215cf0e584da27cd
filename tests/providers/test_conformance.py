"""Every provider keeps the same promises. What is tested follows from its declaration and its cases.

A provider that is added is tested here without a line in this file: only `cases/<key>.py` is asked for.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.actions.parameters import evaluate_parameters
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.core.secrets import SecretBox
from app.events.reception import ReceivedEvent, receive_events
from app.models.status import EventStatus
from app.providers.base import DESTRUCTIVE, Provider
from app.providers.registry import providers
from app.providers.verification import (
    Delivery,
    Headers,
    Scheme,
    Secret,
    SignedTimestamp,
    StandardWebhook,
    UnusableSecret,
    Verdict,
    verify,
)
from app.scripting.pool import Scripts
from app.sources.live import Endpoint
from tests.providers.case import NOW, case_of

PROVIDERS = sorted(providers())
SIGNED = [key for key in PROVIDERS if providers()[key].scheme is not None]
STAMPED = [key for key in SIGNED if hasattr(providers()[key].scheme, "timestamp")]
BODY = orjson.dumps({"id": "evt_1", "name": "Zoë", "amount": 42})
LONGEST_REASON = 250


def scheme_of(key: str) -> Scheme:
    scheme = providers()[key].scheme
    assert scheme is not None
    return scheme


def timestamp_of(key: str) -> SignedTimestamp:
    found: SignedTimestamp = scheme_of(key).timestamp  # type: ignore[attr-defined]
    return found


def signed(key: str, body: bytes = BODY, secret: str | None = None, moment: datetime = NOW) -> Headers:
    """The headers as they arrive: HTTP's text is Latin-1, whatever the sender wrote."""
    headers = scheme_of(key).sign(body, secret or case_of(key).secrets[0], moment, "msg_1")
    return {name: value.encode().decode("latin-1") for name, value in headers.items()}


def judge(
    key: str,
    body: bytes,
    headers: Headers,
    *secrets: str,
    at: datetime = NOW,
    expires_at: datetime | None = None,
) -> Verdict:
    given = [Secret(uuid4(), each, expires_at) for each in secrets or case_of(key).secrets[:1]]
    return verify(scheme_of(key), Delivery(body, headers, at), given)


def refused(verdict: Verdict) -> bool:
    """Whether it is a clean rejection: no verdict of genuineness, and a reason that a person can read."""
    assert verdict.verified is not True
    assert 0 < len(verdict.reason) <= LONGEST_REASON, verdict.reason
    return True


def nothing_is_signed(key: str) -> bool:
    """Whether the secret itself is sent, as the provider's setup page has to say."""
    return any("Nothing is signed" in each for each in scheme_of(key).explain())


@pytest.mark.parametrize("key", SIGNED)
def test_valid(key: str) -> None:
    verdict = judge(key, BODY, signed(key))
    assert verdict.verified, verdict.reason


@pytest.mark.parametrize("key", SIGNED)
@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", "Zoë ☎".encode(), b"x" * 300_000])
def test_valid_whatever_the_bytes(key: str, body: bytes) -> None:
    assert judge(key, body, signed(key, body)).verified


@pytest.mark.parametrize("key", SIGNED)
def test_tampered_body(key: str) -> None:
    """One bit is enough, except where nothing is signed: then the scheme says so on the setup page."""
    for position in (0, len(BODY) // 2, len(BODY) - 1):
        tampered = bytearray(BODY)
        tampered[position] ^= 1
        verdict = judge(key, bytes(tampered), signed(key))
        if nothing_is_signed(key):
            assert verdict.verified
        else:
            assert refused(verdict)
            assert verdict.verified is False


@pytest.mark.parametrize("key", SIGNED)
def test_wrong_secret(key: str) -> None:
    right, other = case_of(key).secrets
    assert refused(judge(key, BODY, signed(key, secret=other), right))
    assert refused(judge(key, BODY, signed(key, secret=right), other))


@pytest.mark.parametrize("key", SIGNED)
def test_rotation(key: str) -> None:
    """While two secrets are set, what either signed is genuine, and the verdict says which it was."""
    old, new = (Secret(uuid4(), each, None) for each in case_of(key).secrets)
    for signer in (old, new):
        delivery = Delivery(BODY, signed(key, secret=signer.value), NOW)
        assert verify(scheme_of(key), delivery, [new, old]).secret_id == signer.id
        assert verify(scheme_of(key), delivery, [signer]).verified
    ended = replace(old, expires_at=NOW)
    assert refused(verify(scheme_of(key), Delivery(BODY, signed(key, secret=old.value), NOW), [new, ended]))


@pytest.mark.parametrize("key", [key for key in SIGNED if case_of(key).several is not None])
def test_several_signatures(key: str) -> None:
    """A sender in the middle of a rotation signs with both: either secret verifies, a third one does not."""
    case = case_of(key)
    assert case.several is not None
    first, second = (signed(key, secret=each) for each in case.secrets)
    for headers in (case.several(first, second), case.several(second, first)):
        assert all(judge(key, BODY, headers, each).verified for each in case.secrets)
        assert refused(judge(key, BODY + b" ", headers, *case.secrets))


@pytest.mark.parametrize("key", SIGNED)
def test_no_usable_secret(key: str) -> None:
    headers = signed(key)
    for verdict in (
        verify(scheme_of(key), Delivery(BODY, headers, NOW), []),
        judge(key, BODY, headers, ""),
        judge(key, BODY, headers, case_of(key).secrets[0], expires_at=NOW),
    ):
        assert refused(verdict)
        assert verdict.verified is None
        assert not verdict.status(enforced=True).endswith("verified")


@pytest.mark.parametrize("key", SIGNED)
def test_secret_of_the_wrong_form(key: str) -> None:
    """It cannot be saved, and if it were stored all the same it would verify nothing and break nothing."""
    for secret in case_of(key).unusable:
        with pytest.raises(UnusableSecret):
            scheme_of(key).sign(BODY, secret, NOW, "msg_1")
        assert refused(judge(key, BODY, signed(key), secret))
        assert judge(key, BODY, signed(key), secret, case_of(key).secrets[0]).verified


@pytest.mark.parametrize("key", STAMPED)
def test_expired_and_far_future(key: str) -> None:
    stamp = timestamp_of(key)
    second = timedelta(seconds=1)
    accepted = [timedelta(), stamp.past, -stamp.future]
    rejected = [stamp.past + second, timedelta(days=1), -stamp.future - second, -timedelta(days=3650)]
    for age in accepted:
        assert judge(key, BODY, signed(key), at=NOW + age).verified, age
    for age in rejected:
        verdict = judge(key, BODY, signed(key), at=NOW + age)
        assert refused(verdict), age
        assert "old" in verdict.reason or "future" in verdict.reason


@pytest.mark.parametrize("key", STAMPED)
def test_stamp_in_another_unit(key: str) -> None:
    """Milliseconds where seconds are due, or the other way round: rejected, not believed."""
    stamp = timestamp_of(key).of(NOW)
    wrong = stamp * 1000 if timestamp_of(key).unit == "seconds" else stamp // 1000
    headers = {name: value.replace(str(stamp), str(wrong)) for name, value in signed(key).items()}
    assert headers != signed(key)
    assert refused(judge(key, BODY, headers))


def malformed(value: str) -> Iterator[str]:
    """What may stand in a header instead of what should."""
    yield from (
        "",
        " ",
        "garbage",
        ",",
        "=",
        "=,=",
        ", ,",
        "t=",
        "v1=",
        "v1,",
        "v1a,",
        "t=,v1=",
        "t=1,v1=",
        "v1,=",
    )
    yield from (
        "v1,\u00ff\u00fe",
        "schl\u00fcssel",
        "t=\u00b2,v1=00",
        "\x00",
        "t=1;v1=2",
        "Bearer",
        "Bearer ",
        "sha256=",
    )
    yield from (
        "t=nan,v1=0",
        "t=inf,v1=0",
        "t=1e400,v1=0",
        "t=-1,v1=0",
        "nan",
        "inf",
        "-1",
        "9" * 5000,
        "1e400",
        "0x10",
    )
    yield from ("v1," + "A" * 43 + "=", "v1a," + "A" * 86 + "==", "A" * 44, "0" * 64, "sha256=" + "0" * 64)
    yield from (
        "x" * 100_000,
        "v1," * 30_000,
        "v1,AAAA " * 12_000,
        "t=1," * 20_000,
        "v1=00," * 15_000,
        " " * 50_000,
    )
    yield from (
        value[:-4],
        value[4:],
        value[::-1],
        "x" + value,
        value + "x",
        value.swapcase() + "!",
    )


@pytest.mark.parametrize("key", SIGNED)
def test_missing_header(key: str) -> None:
    headers = signed(key)
    for name in headers:
        verdict = judge(key, BODY, {other: value for other, value in headers.items() if other != name})
        assert refused(verdict)
        assert "missing" in verdict.reason
        assert name in verdict.reason


@pytest.mark.parametrize("key", SIGNED)
def test_malformed_header(key: str) -> None:
    """Whatever stands in a header is at worst a failed verification with a short reason."""
    headers = signed(key)
    for name, value in headers.items():
        for wrong in malformed(value):
            verdict = judge(key, BODY, {**headers, name: wrong})
            assert refused(verdict), (name, wrong[:60])
            assert case_of(key).secrets[0] not in verdict.reason


@pytest.mark.parametrize("key", SIGNED)
def test_every_header_malformed_at_once(key: str) -> None:
    for wrong in malformed("garbage"):
        assert refused(judge(key, BODY, dict.fromkeys(signed(key), wrong)))


@pytest.mark.parametrize("key", SIGNED)
def test_vectors(key: str) -> None:
    for vector in case_of(key).vectors:
        assert judge(key, vector.body, vector.headers, vector.secret, at=vector.at).verified
        assert refused(judge(key, vector.body, vector.headers, *case_of(key).secrets[1:], at=vector.at))
        tampered = bytearray(vector.body)
        tampered[len(tampered) // 4] ^= 1
        assert nothing_is_signed(key) or refused(
            judge(key, bytes(tampered), vector.headers, vector.secret, at=vector.at)
        )
        for name in vector.headers:
            for wrong in malformed("garbage"):
                headers = {**vector.headers, name: wrong}
                assert refused(judge(key, vector.body, headers, vector.secret, at=vector.at)), (
                    name,
                    wrong[:60],
                )


@pytest.mark.parametrize("key", [key for key in SIGNED if case_of(key).vendor_verifies])
def test_the_vendors_library_accepts_what_we_sign(key: str) -> None:
    verifies = case_of(key).vendor_verifies
    assert verifies is not None
    for secret in case_of(key).secrets:
        headers = scheme_of(key).sign(BODY, secret, datetime.now(UTC), "msg_1")
        verifies(BODY, headers, secret)
        with pytest.raises(Exception, match=r"(?i)signature"):
            verifies(BODY + b" ", headers, secret)


@pytest.mark.parametrize("key", [key for key in SIGNED if case_of(key).vendor_signs])
def test_we_accept_what_the_vendors_library_signs(key: str) -> None:
    signs = case_of(key).vendor_signs
    assert signs is not None
    for secret in case_of(key).secrets:
        headers = signs(BODY, secret, NOW)
        assert judge(key, BODY, headers, secret).verified
        assert refused(judge(key, BODY + b" ", headers, secret))


def endpoint_of(provider: Provider, **changes: Any) -> Endpoint:
    """The endpoint of a new source of this provider."""
    defaults = Endpoint(
        source_key=provider.key,
        environment="development",
        provider=provider,
        event_type_path=provider.event_type_path,
        idempotency_key_path=provider.idempotency_key_path,
        timestamp_path=provider.timestamp_path,
        enforce_verification=False,
        enforce_idempotency=True,
        idempotency_window=timedelta(hours=24),
        start_unmapped=True,
    )
    return replace(defaults, **changes)


BOX = SecretBox(SecretStr(Fernet.generate_key().decode()))
# Never called: these endpoints have no script.
SCRIPTS = Scripts(1)


async def received(key: str, body: Any, headers: Headers) -> ReceivedEvent:
    """The event that reception makes of a body, unverified."""
    events = await receive_events(endpoint_of(providers()[key]), orjson.dumps(body), headers, BOX, SCRIPTS)
    assert isinstance(events, list)
    (event,) = events
    return event


EXAMPLES = [(key, event_type) for key in PROVIDERS for event_type in providers()[key].examples]


@pytest.mark.parametrize("key", PROVIDERS)
def test_declaration_is_whole(key: str) -> None:
    provider, case = providers()[key], case_of(key)
    assert set(case.outcomes) == set(provider.examples), "each example has its outcome"
    assert {each.event_type for each in provider.default_mappings} <= set(provider.examples)
    declared = (*provider.default_mappings, *provider.implicit_mappings)
    assert all(each.action_type in action_types() for each in declared)
    assert action_types().keys() >= DESTRUCTIVE
    assert {each.event_type for each in provider.implicit_mappings} <= set(provider.examples)
    assert (provider.scheme is None) == (provider.secret is None)
    assert provider.categories
    assert provider.description.endswith(".")
    assert any(step.where == "vendor" for step in provider.setup)
    assert any(step.where == "doorbell" for step in provider.setup)
    assert all(
        name == name.lower() for each in provider.examples.values() for one in each for name in one.headers
    )


@pytest.mark.parametrize(("key", "event_type"), EXAMPLES)
async def test_examples_are_identified(key: str, event_type: str) -> None:
    """Event type, idempotency key and time are found where the declaration says that they stand."""
    outcome = case_of(key).outcomes[event_type]
    for example in providers()[key].examples[event_type]:
        event = await received(key, example.body, example.headers)
        provider = providers()[key]
        # The id of a signed message comes with its signature, and examples are unsigned.
        is_signed_id = isinstance(provider.scheme, StandardWebhook)
        unsigned = f"idempotency key: {provider.idempotency_key_path} has no value in this event"
        assert event.error == (unsigned if is_signed_id else None)
        assert event.status is EventStatus.RECEIVED
        assert event.event_type == event_type
        assert event.idempotency_key == outcome.idempotency_key
        assert event.occurred_at == outcome.occurred_at


@pytest.mark.parametrize(("key", "event_type"), EXAMPLES)
async def test_default_mappings_evaluate(key: str, event_type: str) -> None:
    """The default mappings make of the examples exactly the calls that the cases write down."""
    provider = providers()[key]
    declared = (*provider.default_mappings, *provider.implicit_mappings)
    mappings = [each for each in declared if each.event_type == event_type]
    mappings.sort(key=lambda each: action_types()[each.action_type].order)
    example = provider.examples[event_type][0]
    event = await received(key, example.body, example.headers)
    decoded = DecodedEvent(orjson.loads(event.body), example.headers, event.preprocess_output)
    made = tuple(
        (
            each.action_type,
            evaluate_parameters(action_types()[each.action_type], each.action_parameters, decoded),
        )
        for each in mappings
    )
    assert made == case_of(key).outcomes[event_type].actions


STRANGE: dict[str, Any] = {
    "empty": {},
    "nulls": {"type": None, "event": None, "data": None, "id": None, "users": None, "properties": None},
    "numbers": {
        "type": 1,
        "event": 2,
        "data": 3,
        "id": 4,
        "schema": 5,
        "table": 6,
        "in_cohort": 7,
        "users": 8,
    },
    "lists": {"type": [], "event": [], "data": [], "customer": [1], "users": [1], "in_cohort": []},
    "texts": {"type": "x", "event": "x", "data": "x", "customer": "x", "users": "x", "in_cohort": "x"},
    "deep": {
        "type": "x",
        "data": {"email_addresses": [None], "emails": [None, 1], "user": []},
        "users": [None],
    },
}


@pytest.mark.parametrize("key", PROVIDERS)
async def test_a_body_of_another_shape_is_an_event_all_the_same(key: str) -> None:
    """It is logged, unidentified if need be, with a reason: the sender gets its 2xx, a person sees why."""
    for name, body in {**STRANGE, **case_of(key).bad_bodies}.items():
        event = await received(key, body, {"content-type": "application/json"})
        assert event.status is EventStatus.RECEIVED, name
        assert event.event_type is not None or event.error, name
    for name, body in case_of(key).bad_bodies.items():
        event = await received(key, body, {"content-type": "application/json"})
        path = providers()[key].event_type_path
        assert (
            event.preprocess_output is None or event.event_type is not None or path in (event.error or "")
        ), name


def test_cases_have_a_provider() -> None:
    """No cases stay behind when a provider goes."""
    cases = {path.stem for path in (Path(__file__).parent / "cases").glob("[!_]*.py")}
    assert cases == set(PROVIDERS)
