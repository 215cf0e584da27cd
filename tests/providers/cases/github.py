"""GitHub, with the values that its documentation gives to check an implementation with.

https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

from tests.providers.case import Case, Outcome, Vector


def _delivery(number: int) -> Outcome:
    return Outcome(f"72d3162e-cc78-11e3-81ab-{number:012d}", occurred_at=None)


case = Case(
    secrets=("It's a Secret to Everybody", "another"),
    vectors=(
        Vector(
            "It's a Secret to Everybody",
            b"Hello, World!",
            {
                "x-hub-signature-256": "sha256="
                "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
            },
        ),
    ),
    outcomes={"ping": _delivery(1), "issues": _delivery(2), "release": _delivery(3)},
)
