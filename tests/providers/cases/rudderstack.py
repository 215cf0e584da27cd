"""RudderStack, which signs nothing and can send a header."""

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
        "track/order_completed": spec.triggered("order-completed"),
    },
    bad_bodies=spec.BAD_BODIES,
)
