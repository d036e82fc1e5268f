"""Every error that foretell raises on purpose. Each door (command line, HTTP) maps the classes to its own codes.

ForetellError
├── UsageError              the command or call itself is wrong
├── OutputError             the output cannot be written
├── RejectsExceeded         more rows were bad than were allowed to be
├── OutputHeld              the output is not like the one before, and was kept beside it
├── LedgerError             the ledger of jobs cannot be read or written
├── ServerError             the server cannot run (a busy port, a worker that will not start)
│   └── Overloaded
├── ModelError              the model cannot be found, trusted or loaded
│   ├── ModelNotFound
│   ├── RegistryDown
│   ├── ModelUnreadable
│   ├── ModelUntrusted
│   └── LibraryMissing
├── InputError              the input cannot be read or does not fit the model's signature
│   ├── InputUnreadable
│   ├── InputTooLarge
│   ├── FormatUnknown
│   ├── FormWrong
│   ├── CellWrong
│   └── RowRefused
└── PredictionError         the model failed on rows that fit its signature
    └── DeadlineExceeded
"""

from typing import Any


class ForetellError(Exception):
    """Something went wrong.

    message: what, where and which value, on one line. hint: what to do, on one line, or empty. details: more of the
    same, a line each. row_wrong: whether it is about one row, without which a job could go on.
    """

    code = "INTERNAL_ERROR"
    details: tuple[str, ...] = ()
    row_wrong = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message))
        self.message = printable(message)
        self.hint = printable(hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come from other processes as they are."""
        return _again, (type(self), self.__dict__)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def _again(kind: type[ForetellError], state: dict[str, Any]) -> ForetellError:
    error = kind.__new__(kind, state["message"])
    error.__dict__.update(state)
    return error


def printable(text: str) -> str:
    """Text that may hold anything, of a model's or a server's too, as one line that a terminal only shows."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


class UsageError(ForetellError):
    """The command or call itself is wrong."""

    code = "INVALID_PARAMETER_VALUE"


class OutputError(ForetellError):
    """The output cannot be written."""

    code = "IO_ERROR"


class RejectsExceeded(ForetellError):
    """More rows were bad than were allowed to be."""

    code = "BAD_REQUEST"


class OutputHeld(ForetellError):
    """The output is complete, but not like the one before, so that it waits beside it."""

    code = "INVALID_STATE"


class LedgerError(ForetellError):
    """The ledger of jobs cannot be read or written."""

    code = "IO_ERROR"


class ServerError(ForetellError):
    """The server cannot run."""

    code = "TEMPORARILY_UNAVAILABLE"


class Overloaded(ServerError):
    """The server has more to do than it can; later it may have time.

    full: a word for what there is too much of.
    """

    def __init__(self, message: str, hint: str = "", *, full: str = "") -> None:
        super().__init__(message, hint)
        self.full = full


class ModelError(ForetellError):
    """The model cannot be found, trusted or loaded."""

    code = "INVALID_STATE"


class ModelNotFound(ModelError):
    """No such model, version, stage or alias."""

    code = "RESOURCE_DOES_NOT_EXIST"


class RegistryDown(ModelError):
    """The registry does not answer."""

    code = "TEMPORARILY_UNAVAILABLE"


class ModelUnreadable(ModelError):
    """The model's files are missing, broken or changed."""


class ModelUntrusted(ModelError):
    """Loading this model would run code, and nobody has said that it may.

    file: what would run. digest: sha256 of the model's files. origin: where it came from.
    """

    code = "PERMISSION_DENIED"

    def __init__(self, message: str, hint: str, *, file: str, digest: str, origin: str) -> None:
        super().__init__(message, hint)
        self.file = printable(file)
        self.digest = digest
        self.origin = origin


class LibraryMissing(ModelError):
    """A library that this model needs is not installed."""


class InputError(ForetellError):
    """The input cannot be read or does not fit the model's signature."""

    code = "BAD_REQUEST"


class InputUnreadable(InputError):
    """The input is missing, torn, or not in its format."""


class InputTooLarge(InputError):
    """The input is over a limit."""

    code = "REQUEST_LIMIT_EXCEEDED"


class FormatUnknown(InputError):
    """The input's or the answer's format is none that foretell reads or writes."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class FormWrong(InputError):
    """The input as a whole does not fit: a missing column, an unknown form or parameter."""

    code = "INVALID_PARAMETER_VALUE"


class CellWrong(InputError):
    """One cell, or one row's shape, does not fit.

    row: its index in the rows at hand, from 0. column: its index in the signature's inputs, or None for the whole
    row. reason: what is wrong with it, without the place.
    """

    code = "INVALID_PARAMETER_VALUE"

    def __init__(self, row: int, column: int | None, reason: str, hint: str = "") -> None:
        super().__init__(f"row {row}: {reason}", hint)
        self.row = row
        self.column = column
        self.reason = reason

    def at(self, place: str) -> "CellWrong":
        """The same error with its place spelled out."""
        placed = CellWrong(self.row, self.column, self.reason, self.hint)
        placed.message = printable(f"{place}: {self.reason}")
        return placed


class RowRefused(InputError):
    """The model's library refused a row by its own input validation (a NaN, a value too large)."""


class PredictionError(ForetellError):
    """The model failed on rows that fit its signature."""


class DeadlineExceeded(PredictionError):
    """The answer would have come too late."""

    code = "DEADLINE_EXCEEDED"
