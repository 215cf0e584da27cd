"""Knock's older HTTP source, which signs nothing."""

from tests.providers.case import Case, Outcome, Vector

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),),
    outcomes={"Order Completed": Outcome("msg_1")},
    bad_bodies={
        "identify": {"type": "identify", "userId": "user_42"},
        "no event": {"type": "track"},
        "no type": {"event": "Order Completed"},
    },
)
