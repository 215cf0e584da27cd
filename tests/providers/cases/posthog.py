"""PostHog, which signs nothing."""

from tests.providers.case import Case, Outcome, Vector

_IDENTIFIED = (("users_identify", {"id": "user_42", "name": "Ada Example", "email": "ada@example.com"}),)

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(
        Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),
        Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),
    ),
    outcomes={
        "$identify": Outcome("019b7a1e-0000-7000-8000-000000000001", actions=_IDENTIFIED),
        "$set": Outcome("019b7a1e-0000-7000-8000-000000000002", actions=_IDENTIFIED),
        "$pageview": Outcome("019b7a1e-0000-7000-8000-000000000003"),
    },
)
