"""Where several processes show their counts to each other: a small shared memory with a slot for each.

The parent makes it and its workers inherit it, by its file's number. Nothing of it has a name on disk, and nothing is
left of it when all have ended, however that happens.
"""

import mmap
import os
import struct
import tempfile
import zlib

from foretell.errors import ServerError

_HALF = 128 << 10
_HEAD = 32
_SLOT = _HEAD + 2 * _HALF
_WORD = struct.Struct("Q")
"""In the machine's own order, so that it is stored at once: a process may be killed between any two stores."""
_MOST_TRIES = 100
_FREE, _TAKEN, _LIVING = range(3)


class Board:
    """slots: how many processes there can be at a time. What a slot holds is whole: it is written into the half that
    nobody reads, and then made the one that counts."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.slots = os.fstat(file).st_size // _SLOT
        self._memory = mmap.mmap(file, self.slots * _SLOT)

    @classmethod
    def made(cls, slots: int) -> "Board":
        """A new one, empty. Only what is written of it takes memory."""
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("foretell-counts")
        else:
            with tempfile.TemporaryFile() as opened:
                file = os.dup(opened.fileno())
        os.ftruncate(file, slots * _SLOT)
        return cls(file)

    def take(self) -> int:
        """A slot for a process that is about to start, which goes on from the counts that stand there. Only the parent
        takes and leaves. Raises ServerError where all are taken."""
        slot = next((slot for slot in range(self.slots) if self._state(slot) == _FREE), None)
        if slot is None:
            raise ServerError(f"there are {self.slots} server processes already")
        _WORD.pack_into(self._memory, slot * _SLOT, _TAKEN)
        return slot

    def leave(self, slot: int) -> None:
        """The process has ended: what it counted stays."""
        _WORD.pack_into(self._memory, slot * _SLOT, _FREE)

    def living(self, slot: int) -> bool:
        """Whether what a slot shows is of a process that runs, and not of one before it."""
        return self._state(slot) == _LIVING

    def write(self, slot: int, shown: bytes) -> bool:
        """Shows this in place of what was shown. Returns whether there was room."""
        if len(shown) > _HALF:
            return False
        half = 1 - self._active(slot)[0]
        at = slot * _SLOT + _HEAD + half * _HALF
        self._memory[at : at + len(shown)] = shown
        _WORD.pack_into(self._memory, slot * _SLOT + 8, half << 63 | len(shown) << 32 | zlib.crc32(shown))
        _WORD.pack_into(self._memory, slot * _SLOT, _LIVING)
        return True

    def read(self, slot: int) -> bytes:
        """What a slot shows; nothing where nothing was shown yet."""
        for _ in range(_MOST_TRIES):
            half, length, check = self._active(slot)
            at = slot * _SLOT + _HEAD + half * _HALF
            shown = self._memory[at : at + length]
            if zlib.crc32(shown) == check:
                return shown
        return b""

    def close(self) -> None:
        self._memory.close()
        os.close(self.file)

    def _state(self, slot: int) -> int:
        return int(_WORD.unpack_from(self._memory, slot * _SLOT)[0])

    def _active(self, slot: int) -> tuple[int, int, int]:
        """The half that counts, how long what it shows is, and its checksum."""
        word = _WORD.unpack_from(self._memory, slot * _SLOT + 8)[0]
        return word >> 63, word >> 32 & 0x7FFFFFFF, word & 0xFFFFFFFF
