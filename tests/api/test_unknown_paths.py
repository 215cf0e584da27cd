"""Unknown paths and methods: Knock's error body for programs, a page for browsers."""

import pytest

from tests.bench import Api

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/integrations/nothing/at/all"])
async def test_an_unknown_path(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "code": "not_found",
        "message": f"There is nothing at {path}",
        "status": 404,
        "type": "invalid_request_error",
    }


async def test_a_browser_sees_a_page(api: Api) -> None:
    answer = await api.get("/nothing", headers=BROWSER)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is nothing at /nothing" in answer.text
    assert "content-security-policy" in answer.headers
    of_api = await api.get("/v1/nothing", headers=BROWSER)
    assert of_api.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/sources/shop", "GET, PUT, DELETE"),
        ("POST", "/v1/sources", "GET"),
        ("OPTIONS", "/v1/whoami", "GET"),
        ("DELETE", "/v1/users/bulk/identify", "POST"),
        ("PUT", "/integrations/receive/abc", "GET, HEAD, POST"),
        ("POST", "/assets/dashboard.js", "GET, HEAD"),
    ],
)
async def test_an_unknown_method(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["code"] == "method_not_allowed"


async def test_a_browser_sees_a_page_for_a_method(api: Api) -> None:
    answer = await api.request("PATCH", "/sources", headers=BROWSER)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"].startswith("text/html")
