"""HTML as plain text, by itself."""

import re

import pytest

from app.scripting.markup import html_of, text_of


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hello <b>you</b></p><p>Bye</p>", "Hello you\n\nBye"),
        ('<a href="https://example.com/x">Look</a>', "Look (https://example.com/x)"),
        ("<head><title>T</title><style>p {}</style></head><body>x &lt; y<br>z</body>", "x < y\nz"),
        ("<ul><li>a</li><li>b</li></ul>", "a\n\nb"),
        ("plain", "plain"),
        ("a < b & c <3", "a < b & c <3"),
        ("a<!-- <p>no</p> -->b<!doctype html>c<?xml?>d", "abcd"),
        ("<p title='>'>x</p><p title=it's>y</p>", "x\n\ny"),
        ("<SCRIPT>if (a < b) { '</p>' }</SCRIPT>x", "x"),
        ("<a title=' href=no' href = /x?a&amp;b >y</a>", "y (/x?a&b)"),
        ("x<a href='y", "x"),
        ("x<!-- y", "x"),
        (f"x&#{'9' * 5000};y", "x\N{REPLACEMENT CHARACTER}y"),
        ("", ""),
    ],
)
def test_text_of_html(html: str, text: str) -> None:
    assert text_of(html) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<",
        "</",
        "<!--",
        "<!",
        "<?",
        '<a href="',
        "<a b='",
        "<script>",
        "&#",
        "&",
        " \n",
        '<a ="',
        "[(",
    ],
)
def test_no_part_is_read_again_and_again(piece: str) -> None:
    """Ten times the text takes about ten times the work; when it was quadratic, this took minutes."""
    assert isinstance(text_of(piece * 100_000), str)


def test_raw_html_in_markdown_stays_text() -> None:
    assert re.search("<script", html_of("<script>x</script> [x](javascript:y)")) is None
