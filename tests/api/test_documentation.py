"""The documentation: every operation of the Management API with examples and errors, on a page that needs no
internet."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench import Api

JSON = "application/json"


async def test_the_page_loads_nothing_from_elsewhere(api: Api) -> None:
    page = await api.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) >= 3
    assert "://" not in page.text
    for link in links:
        assert link.startswith("/docs/assets/")
        asset = await api.get(link)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
    assert '"validatorUrl": null' in page.text, "nor does it send the document to a validator"
    assert (await api.get("/docs/assets/../consts.py")).status_code == 404
    assert (await api.get("/redoc")).status_code == 404
    document = re.search(r"url: '([^']+)'", page.text)
    assert document is not None
    assert (await api.get(document[1])).json()["openapi"].startswith("3.")


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/openapi.json")).json()
    return found


def management(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "Service token" in str(operation.get("security")):
                yield f"{method.upper()} {path}", operation


MAKES_WHAT_IS_NOT_THERE = {
    "PUT /v1/sources/{key}",
    "PUT /v1/variables/{key}",
    "PUT /v1/workflows/{workflow_key}",
}


def has_example(document: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a body shows how it looks: by itself, or by what it is made of."""
    if "example" in content or "examples" in content:
        return True
    schema = content["schema"]
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "example" in schema or "examples" in schema:
        return True
    inside = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items", {})]
    return any(has_example(document, {"schema": each}) for each in inside if "$ref" in str(each))


async def test_every_operation_shows_bodies_and_errors(document: dict[str, Any]) -> None:
    operations = dict(management(document))
    assert len(operations) >= 40
    for where, operation in operations.items():
        assert operation["summary"], where
        assert operation["description"], where
        assert {"401", "403", "422", "503"} <= operation["responses"].keys(), where
        if "{" in where and where not in MAKES_WHAT_IS_NOT_THERE:
            assert "404" in operation["responses"], where
        for parameter in operation.get("parameters", []):
            documented = parameter["in"] == "path" or parameter.get("description")
            assert documented, (where, parameter["name"])
        if body := operation.get("requestBody"):
            assert has_example(document, body["content"][JSON]), where
        for status, response in operation["responses"].items():
            if JSON in response.get("content", {}):
                assert has_example(document, response["content"][JSON]), (where, status)
            elif status.startswith("2"):
                assert status == "204" or "text/event-stream" in response["content"], where
