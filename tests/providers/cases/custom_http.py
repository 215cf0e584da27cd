"""A service of one's own. There is no vendor's library."""

from tests.providers.case import Case, Outcome

case = Case(
    secrets=("sesame-öffne-dich", "sésame"),
    outcomes={
        "user.identified": Outcome(
            occurred_at=None,
            actions=(
                (
                    "users_identify",
                    {
                        "id": "user_123",
                        "name": "Jane Doe",
                        "email": "jane@example.com",
                        "properties": {"plan": "pro", "signup_source": "custom_http"},
                    },
                ),
            ),
        )
    },
)
