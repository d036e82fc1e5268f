"""What a request's headers and query ask for: the body's format, the answer's, probabilities, how long to wait."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from foretell.errors import FormatUnknown, FormWrong
from foretell.serve.head import Head
from foretell.serve.unpacking import codec
from foretell.tables import formats
from foretell.tables.formats import JSON, Format

_TRUE, _FALSE = ("true", "1", ""), ("false", "0")
_FORM = "application/x-www-form-urlencoded"
_MOST_KNOWN = 256


@dataclass(frozen=True)
class Wish:
    """What a request asks for. given: its body's format. codec: how that is packed, or "". answer: the reply's. header:
    whether CSV has one."""

    given: Format
    codec: str
    answer: Format
    proba: bool
    header: bool = True


class Wishes:
    """Reads headers; those that were read before, as nearly all are, cost a look-up."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes, bytes], Wish] = {}

    def of(self, head: Head, body: bytes) -> Wish:
        """Raises FormatUnknown, FormWrong."""
        key = (head.content_type, head.accept, head.encoding, head.query)
        wish = self._known.get(key)
        if wish is None:
            kind, accept, encoding, query = (part.decode("latin-1") for part in key)
            given = _format(kind, body[:64])
            wish = Wish(given, codec(encoding), _accepted(accept), _proba(query), _has_header(kind))
            if len(self._known) < _MOST_KNOWN:
                self._known[key] = wish
        return wish


def patience(head: Head, most: float) -> float:
    """Seconds that the client waits for its answer, at most most. Raises FormWrong."""
    text = head.patience.strip()
    if not (text.isdigit() and len(text) < 12 and int(text)):
        shown = ascii(text.decode("latin-1")[:20])
        raise FormWrong(f"X-Request-Timeout-Ms: {shown} is no number of milliseconds", "For example: 250")
    return min(most, int(text) / 1000)


def _format(said: str, start: bytes) -> Format:
    """The body's format by its content type; JSON without one. start: how the body begins."""
    kind, _, parameters = said.lower().partition(";")
    kind = kind.strip()
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8"):
            raise FormatUnknown("the body must be UTF-8", "Send charset=utf-8, or no charset")
    if not kind:
        return JSON
    fmt = formats.by_content_type(kind)
    if fmt is None:
        known = ", ".join(formats.content_types())
        if kind == _FORM and start.lstrip()[:1] in (b"{", b"'"):
            raise FormatUnknown(
                "the body is sent as a form, which curl does when it is told no type",
                "Add: -H 'Content-Type: application/json'",
            )
        raise FormatUnknown(f"foretell does not read {kind[:60]}", f"Content types: {known}")
    return fmt


def _has_header(said: str) -> bool:
    """Whether CSV has a header, by the parameter that RFC 4180 gives its type; it has without one."""
    parameters = (part.partition("=") for part in said.lower().split(";")[1:])
    values = [value.strip(' "') for name, _, value in parameters if name.strip() == "header"]
    if wrong := [value for value in values if value not in ("present", "absent")]:
        raise FormWrong(f"header={wrong[0][:20]}: expected present or absent", "For example: text/csv; header=absent")
    return "absent" not in values


def _accepted(accept: str) -> Format:
    """The answer's format: the first of ours that the client likes best, else JSON."""
    ranked: list[tuple[float, int, Format]] = []
    for part in accept.lower().split(","):
        kind, _, parameters = part.partition(";")
        fmt = formats.by_content_type(kind.strip())
        if fmt is not None:
            weight = parameters.partition("q=")[2].partition(";")[0].strip()
            ranked.append((-_weight(weight), len(ranked), fmt))
    return min(ranked)[2] if ranked else JSON


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def _proba(query: str) -> bool:
    if not query:
        return False
    said = dict(parse_qsl(query, keep_blank_values=True)).get("proba", "false").lower()
    if said not in _TRUE + _FALSE:
        raise FormWrong(f"proba={said[:20]}: expected true or false")
    return said in _TRUE
