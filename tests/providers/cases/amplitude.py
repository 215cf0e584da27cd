"""Amplitude: two senders, three shapes. A bearer token, nothing signed."""

from tests.providers.case import Case, Outcome, Vector

_MEMBERS = {"key": "amplitude-c1", "members": [{"user": {"id": "user_42"}}, {"user": {"id": "user_43"}}]}

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),),
    outcomes={
        "Order Completed": Outcome("bf0b9b2a-304d-11f0-9c0c-0242ac120002"),
        "$identify": Outcome(
            "user_42:2026-01-01T00:00:00.000Z",
            actions=(
                (
                    "users_identify",
                    {
                        "id": "user_42",
                        "name": "Ada Example",
                        "email": "ada@example.com",
                        "properties": {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"},
                    },
                ),
            ),
        ),
        "cohort.entered": Outcome("m1", occurred_at=None, actions=(("audiences_add_member", _MEMBERS),)),
        "cohort.exited": Outcome("m2", occurred_at=None, actions=(("audiences_remove_member", _MEMBERS),)),
    },
    bad_bodies={
        "cohort without users": {"in_cohort": True, "cohort_id": "c1"},
        "users are ids": {"in_cohort": True, "cohort_id": "c1", "users": ["user_42"]},
    },
)
