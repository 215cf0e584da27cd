"""Paths that are written in another language, found when a mapping or a setting is saved.

The event path (`app/actions/paths.py`) takes any text between dots as a key. Text that can only be meant
otherwise is refused here, with the spelling that works.
"""

import re

from app.actions.paths import COUNTED_BACK, OTHER_SYNTAX, QUOTED_KEY, ROOTS, PathError, child_path, parse_path

_WRAPPED = re.compile(r"\{\{-?(.*?)-?\}\}|\$\{(.*)\}|<%=?(.*)%>|\{(.*)\}|%(.*)%", re.DOTALL)
_INDEX = re.compile(r"\[\s*(\d+|\*|)\s*\]")
_QUOTED_INDEX = re.compile(r"""\[\s*(?:'([^']*)'|"([^"]*)")\s*\]""")
# The event as JSONPath and its relatives call it.
_SIGIL = re.compile(rf"[$@](?=[.\[]|$)|[$@](?=(?:{'|'.join(ROOTS)})(?:[.\[]|$))")
_OPERATOR = re.compile(r"\?\?|\|\||&&|[=!]=|->|[+*?|&=<>!%]|(?<=\s)(?:[-/:]|and|or|if|else|not)(?=\s)")
_TEMPLATE = re.compile(r"\{\{|\$\{|<%")
_SCRIPT = "Let the source's script compute the value, and read it as preprocess.<name>"
_CONSTANT = 'for a constant write {"value": ...}'


def check_path(text: str) -> None:
    """Refuse text that is no path, or that can only be meant as one in another language.

    Raises:
        PathError: the message says how to write it.
    """
    try:
        parse_path(text)
    except PathError:
        if _spelling(text) is None and not _OPERATOR.search(text):
            raise
        raise PathError(advice_on(text)) from None
    if not _is_plain(text):
        raise PathError(advice_on(text))


def looks_like_a_path(text: str) -> bool:
    """Whether text that stands for itself, such as a workflow's key, is meant as a path."""
    return bool(_TEMPLATE.search(text)) or text.startswith(("$.", "$[", *(f"{root}[" for root in ROOTS)))


def advice_on(text: str) -> str:
    """What is wrong with text that is not a path, and what to write."""
    spelling = _spelling(text)
    if spelling is not None:
        return f"{text!r} is not a path: write {spelling}"
    return f"{text!r} is not a path: {_explained(text)}"


def _is_plain(text: str) -> bool:
    """Whether each key without quotes can be one."""
    keys = QUOTED_KEY.sub("quoted", text).split(".")
    return _SIGIL.match(text) is None and not any(OTHER_SYNTAX.search(key) for key in keys if key != "*")


def _spelling(text: str) -> str | None:
    """The path that is meant, when it is one."""
    path = text.strip().removeprefix("=")
    if wrapped := _WRAPPED.fullmatch(path):
        path = next(group for group in wrapped.groups() if group is not None).strip()
    is_from_root = _SIGIL.match(path) is not None
    path = _SIGIL.sub("", path, count=1) if is_from_root else path
    if path.startswith("/"):
        path = path.strip("/").replace("/", ".")
    path = path.replace("?.", ".").replace("->", ".")
    path = _INDEX.sub(lambda index: f".{index[1] or '*'}", path)
    path = _QUOTED_INDEX.sub(lambda key: f".{child_path('', key[1] or key[2] or '')}", path).lstrip(".")
    if is_from_root and path.partition(".")[0] not in ROOTS:
        path = f"body.{path}".rstrip(".")
    return path if path != text and _fits(path) else None


def _fits(path: str) -> bool:
    try:
        parse_path(path)
    except PathError:
        return False
    return _is_plain(path)


def _explained(text: str) -> str:
    if any(COUNTED_BACK.fullmatch(key) for key in text.split(".")):
        return f"positions count from 0, and none from the end. {_SCRIPT}"
    if _TEMPLATE.search(text):
        return f"it mixes text with values. {_SCRIPT}"
    if operator := _OPERATOR.search(text):
        return f"{operator[0]} is no operator, a path reads one value. {_SCRIPT}; {_CONSTANT}"
    found = OTHER_SYNTAX.search(QUOTED_KEY.sub("quoted", text))
    stands = "a space" if found is None or found[0].isspace() else found[0]
    return f'{stands} stands in a key. Write such a key in quotes, as in body."first name"; {_CONSTANT}'
