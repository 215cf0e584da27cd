"""What browsers are told with every answer, and who may read one from another page."""

import base64
import hashlib
import re

import pytest
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from app.api.app import create_app
from app.api.security_headers import DATA_ONLY, SecurityHeaders
from app.api.tracking import PATHS
from app.core.settings import Settings
from tests.bench import Api, Bench
from tests.servers import serve

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": DATA_ONLY,
}
ELSEWHERE = {"origin": "https://elsewhere.example"}


async def test_every_answer_says_what_a_browser_may_do(bench: Bench) -> None:
    api, source = bench.api, await bench.source("stripe")
    answers = [
        await api.get("/livez"),
        await api.get("/openapi.json"),
        await api.get("/v1/sources"),
        await api.get("/v1/sources", headers={"authorization": "Bearer none"}),
        await api.get("/nowhere"),
        await api.delete("/livez"),
        await source.post(source.example("invoice.paid")),
        await source.post(b"", {}),
        await api.post("/v1/track", json={}),
        await api.get("/docs/assets/swagger-ui.css"),
        await api.get("/v1/users/a%2Fb"),
    ]
    assert {each.status_code for each in answers} == {200, 401, 404, 405}
    for answer in answers:
        assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS, answer.request.url
        assert "strict-transport-security" not in answer.headers, "the public URL is http"
        is_data = answer.headers["content-type"] == "application/json"
        assert (answer.headers.get("cache-control") == "no-store") is is_data, answer.request.url


async def test_https_is_for_good_where_the_public_url_is(settings: Settings) -> None:
    https = settings.model_copy(update={"public_url": "https://doorbell.example.com"})
    async with serve(create_app(https)) as url, Api(url, "none") as api:
        answer = await api.get("/livez")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_a_route_keeps_its_own() -> None:
    policy = "default-src 'self'"

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-security-policy": policy, "cache-control": "max-age=60"}
        await HTMLResponse("<p>hello</p>", headers=headers)(scope, receive, send)

    async with serve(SecurityHeaders(page, https=False)) as url, Api(url, "none") as client:
        answer = await client.get("/")
    assert answer.headers.get_list("content-security-policy") == [policy]
    assert answer.headers.get_list("cache-control") == ["max-age=60"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_documentation_runs_its_own_script_only(api: Api) -> None:
    page = await api.get("/docs")
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = dict(each.strip().split(" ", 1) for each in page.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "onclick" not in page.text


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_other_pages_read_nothing_but_the_tracking_api(bench: Bench, method: str) -> None:
    api, source = bench.api, await bench.source("stripe")
    for path in ("/v1/sources", "/v1/users", "/v1/whoami", "/openapi.json", "/docs", source.path, "/livez"):
        answer = await api.request(method, path, headers=ELSEWHERE)
        assert not [name for name in answer.headers if name.startswith("access-control-")], path
    for path in PATHS:
        answer = await api.options(path, headers=ELSEWHERE)
        assert answer.headers["access-control-allow-origin"] == ELSEWHERE["origin"]
