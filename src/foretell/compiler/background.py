"""A faster engine for a model that is being served: made and proven in a process of its own while the library answers,
and put in its place when it is there; taken out again if anybody finds that it answers otherwise."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace

from foretell import predictor as predictors
from foretell.batch import Call
from foretell.errors import ForetellError
from foretell.models.proven import Entry
from foretell.predictor import Predictor

_LOOK_SECONDS = 2.0
_NICE = 5


class Background:
    """Works beside a server.

    place: of the model in the cache. command: compiles the model into it; None where there is nothing to compile.
    environment: the command's. library: loads the model by its own library. say: told what changes, a line each.
    """

    def __init__(
        self,
        predictor: Predictor,
        place: Entry,
        command: list[str] | None,
        environment: dict[str, str],
        library: Callable[[], Predictor],
        say: Callable[[str], None],
    ) -> None:
        self._predictor = predictor
        self._place = place
        self._command = command
        self._environment = environment
        self._library = library
        self._say = say
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends what still runs."""
        self._stop.set()
        if (process := self._process) is not None and process.poll() is None:
            process.terminate()

    def _run(self) -> None:
        try:
            if self._command is not None and self._compiled(self._command):
                self._use_compiled()
            while self._predictor.found.compiled is not None and not self._stop.wait(_LOOK_SECONDS):
                if (why := self._place.demoted(self._predictor.found.compiled)) is not None:
                    self._use_native(why)
        except Exception as error:
            why = error.message if isinstance(error, ForetellError) else f"{type(error).__name__}: {error}"
            self._say(f"it stays with {self._predictor.engine.name}: {why}")

    def _compiled(self, command: list[str]) -> bool:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        if self._stop.is_set():
            self._process.terminate()
        return self._process.wait() == 0 and not self._stop.is_set()

    def _use_compiled(self) -> None:
        record, folder = self._place.record(), self._place.chosen()
        if record is None or folder is None:
            return
        faster = predictors.load(replace(self._predictor.found, compiled=folder))
        faster.rehearse(Call(False, faster.signature.call_params({})))
        self._predictor.take_over(faster)
        self._say(f"now predicting with the {self._predictor.engine.name}, {record.why}")

    def _use_native(self, why: str) -> None:
        native = self._library()
        native.rehearse(Call(False, native.signature.call_params({})))
        self._predictor.take_over(native)
        self._say(f"back to {native.engine.name}: {why}")
