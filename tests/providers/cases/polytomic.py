"""Polytomic, which sends records in batches and signs nothing."""

from tests.providers.case import Case, Outcome, Vector

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),),
    outcomes={
        "sync.records/Users": Outcome(
            "1ea8f90a-8c1d-4b7f-9f38-0d5a3f6f0c11:b7421c6c57bd49f7",
            actions=(
                (
                    "users_identify",
                    {
                        "id": "user_42",
                        "email": "ada@example.com",
                        "properties": {
                            "user_id": "user_42",
                            "email": "ada@example.com",
                            "last_login": "2025-12-31T00:00:00Z",
                        },
                    },
                ),
            ),
        )
    },
    bad_bodies={
        "no object": {"event": "sync.records"},
        "records are no list": {"event": "sync.records", "object": {"id": "o", "records": {}}},
    },
)
