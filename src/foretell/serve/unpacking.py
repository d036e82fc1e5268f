"""Packed bodies: gzip, zstd and deflate, within a limit, and without those that grow beyond all measure."""

import zlib
from collections.abc import Callable

from foretell.errors import FormatUnknown, InputTooLarge, InputUnreadable
from foretell.serve.problems import too_large
from foretell.tables.files import Source

_CODECS = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "deflate": "deflate", "identity": "", "": ""}
_PIECE = 1 << 16
_MOST_TIMES = 200
_FREE = 8 << 20
"""So much may a body unpack to, however small it was."""


def codec(encoding: str) -> str:
    """What a Content-Encoding means; "" for a body as it is. Raises FormatUnknown."""
    known = _CODECS.get(encoding.strip().lower())
    if known is None:
        raise FormatUnknown(
            f"foretell does not unpack the content encoding {encoding.strip()[:60]}", "Send gzip, zstd, deflate or none"
        )
    return known


def unpacked(body: bytes, codec: str, limit: int) -> bytes:
    """The body as it was before it was packed. Raises InputUnreadable, InputTooLarge."""
    read = _inflated(body) if codec == "deflate" else Source.of(body, "body", codec).read1
    pieces, size = [], 0
    while piece := read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        if size > _FREE and size > _MOST_TIMES * len(body):
            raise InputTooLarge(
                f"the body unpacks to over {_MOST_TIMES} times its size", "Send it as it is, or in smaller parts"
            )
    return b"".join(pieces)


def _inflated(body: bytes) -> Callable[[int], bytes]:
    """Reads a deflate body: a zlib stream by the standard, a bare one as some clients send it."""
    zlib_head = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    stream = zlib.decompressobj() if zlib_head else zlib.decompressobj(-zlib.MAX_WBITS)
    at = 0

    def read(most: int) -> bytes:
        nonlocal at
        # What zlib does not take it copies each time, so that it is given a little at a time.
        while not stream.eof:
            given = stream.unconsumed_tail
            if not given:
                given, at = body[at : at + _PIECE], at + _PIECE
            if not given:
                raise InputUnreadable("the body is cut short: its deflate data does not end")
            try:
                piece = stream.decompress(given, most)
            except zlib.error as error:
                raise InputUnreadable("the body is damaged, or not deflate: it cannot be unpacked") from error
            if piece:
                return piece
        if stream.unused_data or at < len(body):
            raise InputUnreadable("the body goes on behind its deflate data")
        return b""

    return read
