"""JSON by the letter of the standard, for what the fast decoders refused: it says what is wrong, and where."""

import json
import re
from itertools import accumulate
from typing import Any

from foretell.cells import show
from foretell.errors import InputTooLarge, InputUnreadable

MAX_DEPTH = 100
_TEXT = re.compile(rb'"[^"]*"?')
_OTHER = bytes(set(range(256)) - set(b"[]{}"))
_PIECE = 1 << 16
_ARRAY_UNITS = 4
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def strict_json(data: bytes) -> Any:
    """One JSON document by the standard's grammar; 1e400 as inf, for the cells to refuse. Raises InputUnreadable.

    A key that comes twice is refused: which one was meant?
    """
    if _depth(data) > MAX_DEPTH:
        raise InputUnreadable(f"the JSON is nested too deeply: over {MAX_DEPTH} levels")
    try:
        return json.loads(data, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_float)
    except json.JSONDecodeError as error:
        raise InputUnreadable(
            f"not valid JSON: {error.msg} at byte {error.pos}", _json_hint(data, error.pos)
        ) from error
    except UnicodeDecodeError as error:
        raise InputUnreadable(f"not valid UTF-8 at byte {error.start}") from error
    except RecursionError:
        raise InputUnreadable("the JSON is nested too deeply") from None
    except ValueError as error:
        raise InputUnreadable(f"not valid JSON: {error}") from error


def within(data: bytes, most: int | None) -> None:
    """That a document is small enough to be read by the letter, which takes many times its memory: by its commas and
    brackets, an array or object counting as four. Raises InputTooLarge."""
    if most is None or len(data) <= most:
        return
    count = data.count(b",") + _ARRAY_UNITS * (data.count(b"[") + data.count(b"{"))
    if count > most:
        raise InputTooLarge(
            f"something in this JSON needs a closer look, and it is too large for one: {count:,} values, over {most:,}",
            "Send fewer rows at a time: then it is said what is wrong, and where",
        )


def _depth(data: bytes) -> int:
    """How deep arrays and objects stand in each other, as far as it matters; where there are few, their number will do.

    It goes in steps that take little time each: whoever waits for this thread's lock waits for one.
    """
    few = data.count(b"[") + data.count(b"{")
    if few <= MAX_DEPTH:
        return few
    brackets = _TEXT.sub(b"", data.replace(b"\\\\", b"").replace(b'\\"', b"")).translate(None, _OTHER)
    deepest = depth = 0
    for at in range(0, len(brackets), _PIECE):
        levels = list(accumulate(map(_STEPS.__getitem__, brackets[at : at + _PIECE]), initial=depth))
        depth, deepest = levels[-1], max(deepest, *levels)
        if deepest > MAX_DEPTH:
            break
    return deepest


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {show(twice)} comes twice in one object")
    return found


class _Huge(float):
    """A number beyond a double's range, which still knows how it was written."""

    text = ""

    def __str__(self) -> str:
        return self.text


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        number = _Huge(number)
        number.text = text
    return number


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON; write null")


def _json_hint(data: bytes, position: int) -> str:
    if data.lstrip()[:1] == b"'":
        return (
            "The body starts with ': your shell kept the quotes. "
            "Put the JSON in double quotes, escaped, or in a file: -d @body.json"
        )
    if data[position : position + 1] == b"'":
        return "JSON wants double quotes"
    return ""
