"""The setup pages are those of the declarations as they are, and what they tell a person to type works."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from app.providers.registry import providers
from app.providers.setup_pages import DIRECTORY, INDEX, page, pages, write_pages
from tests.bench import Api
from tests.conftest import ADMIN_TOKEN
from tests.providers.case import case_of


def test_committed_pages_are_up_to_date() -> None:
    committed = {path.name: path.read_text() for path in DIRECTORY.glob("*.md")}
    stale = sorted(name for name, text in pages().items() if committed.get(name) != text)
    gone = sorted(committed.keys() - pages().keys())
    assert not stale + gone, (
        f"run `python -m app.providers.setup_pages`: {stale + gone} do not match app/providers"
    )


def test_writing_replaces_and_removes(tmp_path: Path) -> None:
    (tmp_path / "stripe.md").write_text("old")
    (tmp_path / "gone.md").write_text("of a provider that is no more")
    write_pages(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == pages()


def test_links_between_pages_lead_somewhere() -> None:
    for name, text in pages().items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or target in pages(), (name, target)
    assert all(f"({key}.md)" in pages()[INDEX] for key in providers())


@pytest.mark.parametrize("key", sorted(providers()))
def test_a_page_says_what_the_declaration_says(key: str) -> None:
    provider, text = providers()[key], page(providers()[key])
    steps = [str(step) for step in provider.setup]
    positions = [text.index(step) for step in steps]
    assert positions == sorted(positions)
    said = [provider.event_type_path, *provider.notes, *provider.sensitive_paths, provider.sending.retries]
    said += [each.event_type for each in provider.default_mappings]
    said += provider.scheme.explain() if provider.scheme else ()
    assert [each for each in said if each not in text] == []
    assert str(provider.success_status) in text


async def test_the_commands_work(api: Api) -> None:
    """Each command, in order, with a secret in the place of the page's placeholder, on a page of each
    sort."""
    sorts = {
        (each.kind, each.enforce_verification, each.secret and each.secret.placeholder): key
        for key, each in providers().items()
    }
    for key in sorts.values():
        provider = providers()[key]
        for method, path, body in commands(page(provider)):
            if provider.secret is not None:
                placeholder = provider.secret.placeholder or "the-secret"
                body = body.replace(f'"{placeholder}"', f'"{case_of(key).secrets[0]}"')
            answer = await api.request(
                method, path, content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (200, 201), (key, method, path, answer.text)
        slug = key.replace("_", "-")
        source = (await api.get(f"/v1/sources/{slug}?environment=development")).json()
        settings = source["environment_settings"]["development"]["settings"]
        assert "/integrations/receive/" in settings["endpoint"]
        assert settings["enforce_verification"] is (provider.secret is not None)


def commands(text: str) -> list[tuple[str, str, str]]:
    """The page's curl commands as method, path and body."""
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    found = []
    for line in block.replace("\\\n", " ").replace("$TOKEN", ADMIN_TOKEN).splitlines():
        if line.startswith("curl"):
            words = shlex.split(line)
            options = dict(itertools.pairwise(words))
            url = next(word for word in words if word.startswith("http://"))
            assert f"Authorization: Bearer {ADMIN_TOKEN}" in words
            found.append(
                (options.get("-X", "GET"), url.removeprefix("http://127.0.0.1:8080"), options.get("-d", ""))
            )
    return found
