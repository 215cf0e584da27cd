"""Segment. Its vectors come from Node's crypto, called as Segment's destination calls it."""

from tests.providers.case import Case, Outcome, Vector
from tests.providers.segment_spec import ALIAS, BAD_BODIES, GROUP, IDENTIFY, triggers

case = Case(
    secrets=("abc123", "schlüssel"),
    vectors=(
        Vector(
            "abc123",
            b'{"messageId":"ajs-vector-1","type":"track","event":"Order Completed","userId":"user_42",'
            b'"properties":{"total":42.5},"timestamp":"2026-01-01T00:00:00.000Z"}',
            {"x-signature": "54396763c314233ef18c0b5ee5cdace59683ff43"},
        ),
    ),
    outcomes={
        "identify": IDENTIFY,
        "group": GROUP,
        "alias": ALIAS,
        "delete": Outcome("msg-delete-1", actions=(("users_delete", {"id": "user_42"}),)),
        "track/user-signed-up": triggers("user-signup"),
        "track/Order Completed": Outcome("msg-track-1"),
    },
    bad_bodies=BAD_BODIES,
)
