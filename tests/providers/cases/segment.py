"""Segment. Its vectors were computed with node's crypto, as the vendor's code calls it."""

from tests.providers.case import Case, Outcome, Vector
from tests.providers.cases import _segment_spec as spec

_BATCH = b'[{"messageId":"m1","type":"track","event":"A"},{"messageId":"m2","type":"track","event":"B"}]'

case = Case(
    secrets=("abc123", "def456"),
    vectors=(
        Vector(
            "abc123",
            b'{"messageId":"ajs-vector-1","type":"track","event":"Order Completed","userId":"user_42",'
            b'"properties":{"total":42.5},"timestamp":"2026-01-01T00:00:00.000Z"}',
            {"x-signature": "54396763c314233ef18c0b5ee5cdace59683ff43"},
        ),
        # Signed as the vendor does, the first event alone; and as one would expect, the whole.
        Vector("abc123", _BATCH, {"x-signature": "629e6c6b601b5a1d213dae8a7e40b191ba567a2b"}),
        Vector("abc123", _BATCH, {"x-signature": "20811edc5d3dfe07c453c2b533bccad324c9038d"}),
    ),
    outcomes={
        "identify": spec.IDENTIFY,
        "group": spec.GROUP,
        "delete": Outcome("msg-delete-1", actions=(("users_delete", {"id": "user_42"}),)),
        "track/user-signed-up": spec.triggered("user-signup"),
        "track/Order Completed": spec.TRACK,
    },
    bad_bodies=spec.BAD_BODIES,
)
