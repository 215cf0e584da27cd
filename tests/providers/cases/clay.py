"""Clay. A bearer token, nothing signed."""

from app.providers.clay import provider
from tests.providers.case import Case, Outcome, Vector

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),),
    outcomes={
        "lead.enriched": Outcome(
            occurred_at=None,
            actions=(
                (
                    "users_identify",
                    {
                        "id": "ada@example.com",
                        "name": "Ada Example",
                        "email": "ada@example.com",
                        "phone_number": "+15550100100",
                        "avatar": "https://example.com/ada.png",
                        "properties": provider.examples["lead.enriched"][0].body,
                    },
                ),
            ),
        )
    },
)
