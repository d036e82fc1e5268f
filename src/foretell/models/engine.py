"""What computes predictions for a loaded model. Each flavour's file has one or more."""

from typing import Protocol

from foretell.batch import Answers, Batch, Call


class Engine(Protocol):
    """A loaded model.

    name: for people. proba: whether it has class probabilities. block: the number of rows that every call has, so that
    a row's last bits do not depend on its neighbours (matrix products round differently by shape); None where rows
    are computed one by one anyway.
    """

    name: str
    proba: bool
    block: int | None

    def predict(self, batch: Batch, call: Call) -> Answers:
        """One answer a row. Raises RowRefused where the library's own validation refuses a row; else what it raises."""
        ...
