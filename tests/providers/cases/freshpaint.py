"""Freshpaint. A secret in a header, nothing signed."""

from tests.providers.case import Case, Vector
from tests.providers.segment_spec import ALIAS, BAD_BODIES, GROUP, IDENTIFY, triggers

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),),
    outcomes={
        "identify": IDENTIFY,
        "group": GROUP,
        "alias": ALIAS,
        "track/user_signed_up": triggers("user-signup"),
    },
    bad_bodies=BAD_BODIES,
)
