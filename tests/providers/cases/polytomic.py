"""Polytomic. A bearer token, nothing signed; one record is one event."""

from tests.providers.case import Case, Outcome, Vector

case = Case(
    secrets=("eyJhbGciOi.one", "eyJhbGciOi.two"),
    vectors=(Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),),
    outcomes={
        "sync.records/Users": Outcome(
            "1ea8f90a-8c1d-4b7f-9f38-0d5a3f6f0c11:b7421c6c57bd49f7:2026-01-01T00:00:00Z",
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
    bad_bodies={"object is text": {"event": "sync.records", "object": "text"}},
)
