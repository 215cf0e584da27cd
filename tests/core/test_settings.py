"""Settings that are refused."""

import pytest
from pydantic import SecretStr, ValidationError

from app.core.settings import MINIMUM_TOKEN_LENGTH, Settings


@pytest.mark.parametrize("token", ["", "x", "x" * (MINIMUM_TOKEN_LENGTH - 1)])
def test_an_admin_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(ValidationError, match="openssl rand"):
        Settings(_env_file=None, admin_token=SecretStr(token))


@pytest.mark.parametrize("given", ["*", "10.0.0.0/99", "localhost", "10.0.0.1,nothing"])
def test_trusted_proxies_are_addresses_and_networks(given: str) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, trusted_proxies=given)
    assert Settings(_env_file=None, trusted_proxies="10.0.0.1, fd00::/8").trusted_hosts == [
        "10.0.0.1",
        "fd00::/8",
    ]
