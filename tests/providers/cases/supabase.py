"""Supabase, which signs nothing."""

from tests.providers.case import Case, Outcome, Vector

_USER = "ea30c0a0-0000-4000-8000-000000000001"
_IDENTIFIED = (
    (
        "users_identify",
        {
            "id": _USER,
            "name": "Ada Example",
            "email": "ada@example.com",
            "phone_number": None,
            "avatar": "https://example.com/ada.png",
            "properties": {"name": "Ada Example", "avatar_url": "https://example.com/ada.png"},
        },
    ),
)

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(
        Vector("sesame", b"{}", {"x-webhook-secret": "sesame"}),
        Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),
    ),
    outcomes={
        "auth.users:INSERT": Outcome(occurred_at=None, actions=_IDENTIFIED),
        "auth.users:UPDATE": Outcome(occurred_at=None, actions=_IDENTIFIED),
        "auth.users:DELETE": Outcome(occurred_at=None, actions=(("users_delete", {"id": _USER}),)),
    },
    bad_bodies={"no table": {"type": "INSERT", "schema": "auth"}},
)
