"""What may stand in the headers of an email: text without control characters, and addresses.

Python's own header classes decode encoded words (`=?utf-8?q?...?=`) within a value, and some versions write
the line ends that were encoded in them as they are: https://github.com/python/cpython/issues/121650 . So
values are looked at as they are after decoding, and what is passed on has no encoded word left.
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.headerregistry import Address
from email.utils import getaddresses

from app.core.errors import Permanent
from app.outbound.email import checked_address

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bqBQ]\?[^?]*\?=")
MAXIMUM_ADDRESSES = 100


def one_line(text: str, field: str) -> str:
    """Text as a header may hold it. An encoded word in it is written as what it says.

    Raises:
        Permanent: it holds a control character, or hides one in an encoded word.
    """
    line = " ".join(text.split())
    for _ in range(3):
        if _CONTROL.search(line):
            raise Permanent(f"{field} holds a control character")
        if not _ENCODED_WORD.search(line):
            return line
        line = _ENCODED_WORD.sub(lambda word: _decoded(word[0], field), line)
    raise Permanent(f"{field} holds encoded words within encoded words")


def parse_addresses(text: str, field: str) -> list[Address]:
    """The addresses of a header as people write them, separated by commas.

    Raises:
        Permanent: one of them is none, or there are too many.
    """
    line = one_line(text, field)
    if not line:
        return []
    found = [
        Address(one_line(name, field), addr_spec=checked_address(spec, field)) for name, spec in _pairs(line)
    ]
    if len(found) > MAXIMUM_ADDRESSES:
        raise Permanent(f"{field} has {len(found)} addresses; at most {MAXIMUM_ADDRESSES} are allowed")
    return found


def _pairs(line: str) -> list[tuple[str, str]]:
    # A comma at the end is common, and says nothing.
    return [each for each in getaddresses([line.rstrip(", ")]) if each != ("", "")] or [("", line)]


def _decoded(word: str, field: str) -> str:
    try:
        parts = decode_header(word)
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts
        )
    except (HeaderParseError, LookupError, ValueError):
        raise Permanent(f"{field} holds an encoded word that cannot be read") from None
