"""Secrets are compared in constant time: `==` ends at the first character that differs, which can be
measured."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "app"
SECRET = re.compile(r"secret|signature|token|digest|password|expected|credential|api_key|hmac", re.IGNORECASE)
# What is compared here is no secret: ids and types, hashes that the database looks up, the digest of a
# request.
PUBLIC = re.compile(
    r"[\w.()]+\.(\w+_)?id\b|\w+\.token_hash == "
    r"(hashed|token_hash\(\w+\))|\"secret\"|secret\.issued_by|\w+\.signature_key|\w*\.?request_digest"
)


def comparisons(source: str) -> Iterator[str]:
    """Those that could be of secrets."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
            text = ast.get_source_segment(source, node) or ""
            if SECRET.search(PUBLIC.sub("", text)):
                yield " ".join(text.split())


def test_no_secret_is_compared_with_equals() -> None:
    found = [
        f"{path.name}: {each}"
        for path in sorted(ROOT.rglob("*.py"))
        for each in comparisons(path.read_text())
    ]
    assert found == []


def test_it_would_be_noticed() -> None:
    assert list(comparisons("if sent == signature: pass")) == ["sent == signature"]
    assert list(comparisons("ok = token != settings.admin_token.get_secret_value()"))
    assert not list(comparisons("secret.id == 1"))
