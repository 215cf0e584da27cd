"""Markdown as HTML, and HTML as plain text. Both take time in proportion to the text, but not always little:
`app/scripting/templates.py` decides where they run."""

import html
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_BLOCKS = frozenset(
    {"p", "div", "br", "tr", "table", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"}
)
_UNSEEN = frozenset({"style", "script", "head", "title"})
# Elements whose content has no tags.
_RAW = frozenset({"style", "script"})
_TAG_NAME = re.compile(r"/?[A-Za-z][^\s/>]*")
# Up to the end of a tag; quoted values may hold `>`. Possessive: what was read is never read again.
_TAG_REST = re.compile(r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+""")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]++)))?+""")
# Python refuses to read numbers of thousands of digits.
_ENDLESS_REFERENCE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{8,});?")


def html_of(markdown: str) -> str:
    """Markdown as HTML. Raw HTML in it stays text: it may come from the data."""
    rendered: str = _markdown().render(markdown)
    return rendered


@cache
def _markdown() -> "MarkdownIt":
    # Here: 0.8 MB, which a worker that sends no in-app messages does without.
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False})


def text_of(markup: str) -> str:
    """HTML as plain text: blocks on lines of their own, links with their addresses.

    Each character is read once. A tag or comment that never ends is dropped with what follows, as browsers
    do.
    """
    reader = _TextReader()
    position = 0
    while (start := markup.find("<", position)) >= 0:
        reader.add(markup[position:start])
        position = reader.read_markup(markup, start)
    reader.add(markup[position:])
    text = re.sub(r"[ \t]+", " ", "".join(reader.parts))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


class _TextReader:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self._unseen = 0
        self._link = ""

    def add(self, text: str) -> None:
        """Text between tags."""
        if text and not self._unseen:
            self.parts.append(_unescape(text).replace("\n", " "))

    def read_markup(self, markup: str, start: int) -> int:
        """Read what begins with `<`; where it ends."""
        if markup.startswith("<!--", start):
            return _after("-->", markup, start + 4)
        if markup.startswith(("<!", "<?"), start):
            return _after(">", markup, start)
        name = _TAG_NAME.match(markup, start + 1)
        if name is None:
            self.add("<")
            return start + 1
        rest = _TAG_REST.match(markup, name.end())
        assert rest is not None
        if not markup.startswith(">", rest.end()):
            return len(markup)
        tag = name[0].lower()
        if tag.startswith("/"):
            self._close(tag[1:])
        else:
            self._open(tag, rest[0])
        if tag in _RAW:
            return self._skip_raw(markup, rest.end() + 1, tag)
        return rest.end() + 1

    def _open(self, tag: str, attributes: str) -> None:
        self._unseen += tag in _UNSEEN
        if tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "a":
            self._link = _unescape(_address(attributes))

    def _close(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN and self._unseen > 0
        if tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "a" and self._link:
            self.parts.append(f" ({self._link})")
            self._link = ""

    def _skip_raw(self, markup: str, position: int, tag: str) -> int:
        """The end tag of an element without tags, or the end."""
        end = re.compile(f"</{tag}(?=[\\s/>])", re.IGNORECASE).search(markup, position)
        return len(markup) if end is None else end.start()


def _address(attributes: str) -> str:
    """Where a link leads, as its tag says."""
    for each in _ATTRIBUTE.finditer(attributes):
        if each[1].lower() == "href":
            return each[2] or each[3] or each[4] or ""
    return ""


def _after(end: str, markup: str, position: int) -> int:
    found = markup.find(end, position)
    return len(markup) if found < 0 else found + len(end)


def _unescape(text: str) -> str:
    return (
        text if "&" not in text else html.unescape(_ENDLESS_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", text))
    )
