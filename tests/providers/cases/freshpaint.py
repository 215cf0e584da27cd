"""Freshpaint, which signs nothing and can send a header."""

from tests.providers.case import Case, Vector
from tests.providers.cases import _segment_spec as spec

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(
        Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),
        Vector("sesame", b"[]", {"authorization": "Bearer sesame"}),
    ),
    outcomes={
        "identify": spec.IDENTIFY,
        "group": spec.GROUP,
        "track/user_signed_up": spec.triggered("user-signup"),
    },
    bad_bodies=spec.BAD_BODIES,
)
