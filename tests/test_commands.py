"""The commands as a person meets them: exit codes, one or two lines when something is wrong, and outputs that are
whole or not there."""

import contextlib
import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.linear_model import LinearRegression

import foretell as package
from conftest import COMMAND, PATIENCE, Command, Ran, foretell
from foretell import errors
from foretell.cli.main import EXIT_CODES, exit_code
from foretell.config import WHEN
from foretell.errors import CellWrong, ForetellError, ModelUntrusted
from foretell.serve.problems import STATUS, status

MODEL = Path(package.__file__).parent / "demo" / "iris"
HEADER = "id,sepal_length,sepal_width,petal_length,petal_width\n"
SMALL = HEADER + "a,5.1,3.5,1.4,0.2\nb,6.7,3.0,5.2,2.3\n"
OUTPUT = "id,prediction\na,0\nb,2\n"
BLOCK = 8 << 20
LONG = f"{'a' * 1000},5.1,3.5,1.4,0.2\n"


def predict(*arguments: object, model: object = MODEL, stdin: bytes | None = None) -> Ran:
    return foretell("models", "predict", "-m", model, *arguments, stdin=stdin)


def to_file(*arguments: object, model: object = MODEL) -> Ran:
    """Predicts in.csv to out.csv, in a folder that has an in.csv."""
    return predict("-i", "in.csv", "-o", "out.csv", *arguments, model=model)


def assert_error(ran: Ran, code: int, *said: str) -> None:
    """That a person sees one or two lines with all of that, and stdout holds nothing."""
    assert (code, "") == (ran.code, ran.out), ran.err
    assert "Traceback" not in ran.err
    assert ran.err.startswith("error: "), ran.err
    assert 1 <= len(ran.err.splitlines()) <= 2, ran.err
    assert [] == [text for text in said if text not in ran.err], ran.err


@pytest.fixture(autouse=True)
def _input() -> None:
    Path("in.csv").write_text(SMALL)


@pytest.fixture
def regressor() -> Path:
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), "regressor.skops")
    return Path("regressor.skops")


def test_the_promised_line_is_all_that_stdout_holds() -> None:
    """A job to a file says where its output is, on stdout, and its summary on stderr; twice the same."""
    for _ in range(2):
        ran = to_file()
        assert (0, "Prediction completed successfully. Output saved to out.csv\n") == (ran.code, ran.out)
        assert ran.err.startswith("2 rows in ")
        assert 1 == len(ran.err.splitlines())
        assert OUTPUT == Path("out.csv").read_text()
    assert {"in.csv", "out.csv"} == {path.name for path in Path.cwd().iterdir()}


BAD_INPUT: dict[str, tuple[list[str], list[str]]] = {
    "no-such-input": (["-i", "nowhere.csv"], ["nowhere.csv"]),
    "an-empty-folder": (["-i", "folder"], ["folder is a folder without a file"]),
    "no-file-fits": (["-i", "no*.csv"], ["no*.csv fits no file"]),
    "two-formats": (["-i", "two"], ["two/a.csv and two/b.jsonl"]),
    "unknown-ending": (["-i", "in.xyz"], ["in.xyz", ".csv", "-t csv"]),
    "no-ending": (["-i", "in"], ["in:", "-t csv"]),
    "empty": (["-i", "empty.csv"], ["empty.csv"]),
    "missing-column": (["-i", "short.csv"], ["short.csv", "petal_width"]),
    "bad-cell": (["-i", "bad.csv"], ["bad.csv, line 3", "sepal_width", "tall"]),
    "a-cell-too-many": (["-i", "long.csv"], ["long.csv, line 3"]),
    "csv-as-json": (["-i", "in.csv", "-t", "json"], ["in.csv", "-t csv"]),
    "not-its-encoding": (["-i", "in.csv", "--encoding", "utf-16"], ["in.csv"]),
    "no-such-model": (["-i", "in.csv", "-m", "nowhere"], ["nowhere", "models:/NAME/STAGE"]),
    "not-a-model": (["-i", "in.csv", "-m", "in.csv"], ["in.csv", ".onnx"]),
}


@pytest.mark.parametrize(("arguments", "said"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_what_cannot_be_read_ends_with_3(arguments: list[str], said: list[str], command: Command) -> None:
    """A model or an input that is missing, unknown or bad: one or two lines that name it, and no output."""
    Path("folder").mkdir()
    Path("two").mkdir()
    Path("two/a.csv").write_text(SMALL)
    Path("two/b.jsonl").write_text("{}")
    for name, text in {
        "in.xyz": SMALL,
        "in": SMALL,
        "empty.csv": "",
        "short.csv": "sepal_length,sepal_width,petal_length\n1,2,3\n",
        "bad.csv": SMALL.replace("3.0", "tall"),
        "long.csv": SMALL.replace("2.3", "2.3,9"),
    }.items():
        Path(name).write_text(text)
    assert_error(command("models", "predict", "-m", MODEL, "-o", "out.csv", *arguments), 3, *said)
    assert [] == outputs()


BAD_USE: dict[str, tuple[list[str], list[str]]] = {
    "output-ending": (["-o", "out.xyz"], ["out.xyz", ".csv"]),
    "output-a-folder": (["-o", "many"], ["many is a folder, and holds in.csv"]),
    "output-a-file": (["-o", "in.csv/"], ["in.csv is a file, not a folder"]),
    "output-holds-the-input": (["-i", "many", "-o", "many"], ["many holds the input"]),
    "output-in-the-input-folder": (["-i", "many", "-o", "many/out.csv"], ["among the inputs"]),
    "output-is-input": (["-o", "in.csv"], ["in.csv is the input too"]),
    "output-is-input-another-way": (["-o", "folder.csv/../in.csv"], ["is the input too"]),
    "output-links-to-input": (["-o", "link.csv"], ["link.csv is the input too"]),
    "output-is-the-same-file": (["-o", "hard.csv"], ["hard.csv is the input too"]),
    "no-clobber": (["-o", "older.csv", "--no-clobber"], ["older.csv is there already"]),
    "cast-column": (["-o", "out.csv", "--cast", "sepal_lenght=double"], ["sepal_lenght", "sepal_length"]),
    "cast-type": (["-o", "out.csv", "--cast", "sepal_length=number"], ["number", "double"]),
    "cast-form": (["-o", "out.csv", "--cast", "sepal_length"], ["--cast sepal_length", "NAME=TYPE"]),
    "params-not-json": (["-o", "out.csv", "--params", "{"], ["--params", """'{"alpha": 0.5}'"""]),
    "params-a-list": (["-o", "out.csv", "--params", "[1]"], ["--params", "JSON object"]),
    "keep-unknown": (["-o", "out.csv", "--keep", "id,idd"], ["--keep idd", "id"]),
    "delimiter": (["-o", "out.csv", "--delimiter", ";;"], ["--delimiter"]),
    "encoding": (["-o", "out.csv", "--encoding", "utf-9"], ["--encoding utf-9"]),
    "schema-missing": (["-o", "out.csv", "--schema", "nowhere.json"], ["nowhere.json"]),
    "schema-bad": (["-o", "out.csv", "--schema", "in.csv"], ["--schema in.csv"]),
    "prediction-taken": (
        ["-o", "out.csv", "--prediction-column", "id"],
        ["'id'", "--prediction-column", "--keep none"],
    ),
    "env-conda": (["-o", "out.csv", "--env-manager", "conda"], ["--env-manager conda", "--env-manager uv makes one"]),
    "env-virtualenv": (
        ["-o", "out.csv", "--env-manager", "virtualenv"],
        ["--env-manager virtualenv", "--env-manager uv"],
    ),
    "unknown-option": (["-o", "out.csv", "--predictoin-column", "p"], ["--predictoin-column", "--prediction-column"]),
    "unknown-content-type": (["-o", "out.csv", "-t", "xml"], ["xml", "csv"]),
}


@pytest.mark.parametrize(("arguments", "said"), BAD_USE.values(), ids=BAD_USE.keys())
def test_a_command_that_is_wrong_itself_ends_with_2(arguments: list[str], said: list[str], command: Command) -> None:
    """A wrong option or output is answered with what would be right, and what was there stays."""
    Path("folder.csv").mkdir()
    Path("many").mkdir()
    Path("many/in.csv").write_text(SMALL)
    Path("link.csv").symlink_to("in.csv")
    Path("hard.csv").hardlink_to("in.csv")
    Path("older.csv").write_text("older")
    assert_error(command("models", "predict", "-m", MODEL, "-i", "in.csv", *arguments), 2, *said)
    assert [] == outputs()
    assert (SMALL, "older") == (Path("in.csv").read_text(), Path("older.csv").read_text())


@pytest.mark.parametrize(
    "arguments", [("models", "predict"), ("models", "predicct"), ("registry", "add", "x"), ("modles",)], ids=" ".join
)
def test_a_command_that_lacks_something_is_told_in_two_lines(arguments: tuple[str, ...], command: Command) -> None:
    """A missing option or a misspelt verb: what it is, and where help is."""
    assert_error(command(*arguments), 2, "--help")


def test_an_output_that_cannot_be_made_ends_with_1() -> None:
    """A missing folder is named with the line that makes it, before any work."""
    assert_error(predict("-i", "in.csv", "-o", "no/such/out.csv"), 1, "no/such", "mkdir -p no/such")


def test_probabilities_of_a_regressor_are_refused(regressor: Path) -> None:
    """--proba needs a classifier, and the message says what to leave out."""
    Path("in.csv").write_text("x\n0\n1\n")
    assert_error(to_file("--proba", model=regressor), 2, "regressor.skops", "--proba")
    assert [] == outputs()


def test_a_parameter_that_the_model_does_not_take_is_refused() -> None:
    """An unknown parameter is named, and so is what the model takes."""
    ran = to_file("--params", '{"alpha": 1}')
    assert_error(ran, ran.code, '"alpha"', "takes none")
    assert ran.code in (2, 3)


@pytest.mark.parametrize("more", [[], ["--keep", "prediction"]], ids=["kept-as-others", "kept-by-name"])
def test_an_input_with_a_column_called_prediction_is_refused_before_reading(more: list[str]) -> None:
    """A column of the input is never mixed up with the predictions'; another name or leaving it out mends it."""
    Path("in.csv").write_text(SMALL.replace("id,", "prediction,").replace("6.7", "tall"))
    assert_error(to_file(*more), 2, "'prediction'", "--prediction-column", "--keep none")
    Path("in.csv").write_text(SMALL.replace("id,", "prediction,"))
    assert 0 == to_file(*more, "--prediction-column", "label").code
    assert "prediction,label\na,0\nb,2\n" == Path("out.csv").read_text()
    assert 0 == to_file("--keep", "none").code
    assert "prediction\n0\n2\n" == Path("out.csv").read_text()


@pytest.mark.parametrize(
    ("keep", "columns"),
    [
        pytest.param("all", "id,place", id="all"),
        pytest.param("none", "", id="none"),
        pytest.param("place", "place", id="one"),
        pytest.param("place,id", "place,id", id="order"),
        pytest.param("id,sepal_width", "id,sepal_width", id="one-that-the-model-takes"),
    ],
)
def test_keep_chooses_the_columns_that_are_carried_along(keep: str, columns: str, command: Command) -> None:
    """All that the model does not take, none, or just those named, in the order named; then the prediction."""
    rows = ["id,place,sepal_length,sepal_width,petal_length,petal_width", 'a,"Oslo, N",5.1,3.5,1.4,0.2']
    cells = {"id": "a", "place": '"Oslo, N"', "sepal_width": "3.5"}
    Path("in.csv").write_text("\n".join(rows) + "\n")
    assert 0 == command("models", "predict", "-m", MODEL, "-i", "in.csv", "-o", "out.csv", "--keep", keep).code
    names = [name for name in columns.split(",") if name]
    expected = [",".join([*names, "prediction"]), ",".join([*(cells[name] for name in names), "0"])]
    assert expected == Path("out.csv").read_text().splitlines()


@pytest.mark.parametrize("more", [[], ["-i", "-", "-o", "-"]], ids=["no-flags", "dashes"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(SMALL, OUTPUT, id="csv"),
        pytest.param(
            '{"id":"a","sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}\n' * 2,
            '{"id":"a","prediction":0}\n' * 2,
            id="jsonl",
        ),
        pytest.param('{"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}', '{"predictions": [0, 2]}', id="json"),
        pytest.param('\n {\n"data": [[5.1, 3.5, 1.4, 0.2]]}\n', '{"predictions": [0]}', id="json-on-lines"),
    ],
)
def test_stdin_to_stdout_keeps_the_format(given: str, expected: str, more: list[str]) -> None:
    """Without files, the input's format is seen in its first bytes, and stdout holds the predictions in the same."""
    ran = predict(*more, stdin=given.encode())
    assert 0 == ran.code, ran.err
    assert [json.loads(line) if line.startswith("{") else line for line in expected.splitlines()] == [
        json.loads(line) if line.startswith("{") else line for line in ran.out.splitlines()
    ]


def test_a_job_that_fails_at_its_last_row_leaves_the_older_output() -> None:
    """The older output stays to the byte, though most rows were predicted."""
    rows = BLOCK * 9 // 4 // len(LONG)
    Path("in.csv").write_text(HEADER + LONG * rows + "z,5.1,3.5,1.4,tall\n")
    Path("out.csv").write_text("older")
    assert_error(to_file(), 3, f"in.csv, line {rows + 2}", "petal_width", "tall")
    assert "older" == Path("out.csv").read_text()


def test_a_pipe_that_is_stopped_leaves_no_draft() -> None:
    """Parts of an output that are done already are of no use where the input does not come again."""
    ended, err = stopped_in_the_middle(signal.SIGTERM, "out/", "--part-mb", "1", began=".out.parts/part-*")
    assert (143, ["in.csv"]) == (ended, [path.name for path in Path.cwd().iterdir()]), err


@pytest.mark.parametrize("older", ["older", None], ids=["replacing", "new"])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_job_that_is_stopped_in_the_middle_leaves_what_was_there(
    sent: signal.Signals, code: int, older: str | None
) -> None:
    """Stopped when part of the output was written, a job leaves the older output, no draft and no traceback."""
    if older is not None:
        Path("out.csv").write_text(older)
    ended, err = stopped_in_the_middle(sent)
    assert code == ended
    assert "Traceback" not in err
    assert older == (Path("out.csv").read_text() if Path("out.csv").exists() else None)
    assert [] == [name for name in outputs() if name != "out.csv"]


def test_a_job_that_is_killed_in_the_middle_can_be_run_again() -> None:
    """SIGKILL leaves the older output whole; the next run succeeds and leaves no draft."""
    Path("out.csv").write_text("older")
    ended, _ = stopped_in_the_middle(signal.SIGKILL)
    assert -signal.SIGKILL == ended
    assert "older" == Path("out.csv").read_text()
    assert 0 == to_file().code
    assert OUTPUT == Path("out.csv").read_text()
    assert ["out.csv"] == outputs()


def stopped_in_the_middle(
    sent: signal.Signals, to: str = "out.csv", *more: str, began: str = ".*draft*"
) -> tuple[int, str]:
    """Feeds a job through a pipe that stays open, and stops it when its draft holds rows; (exit code, stderr)."""
    command = [*COMMAND, "models", "predict", "-m", str(MODEL), "-t", "csv", "-o", to, *more]
    fed = (HEADER + LONG * (2 * BLOCK // len(LONG) + 1)).encode()[: 2 * BLOCK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(fed)
        process.stdin.flush()
        assert drafted(process, began)
        process.send_signal(sent)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
        err = process.stderr.read().decode()
    return process.returncode, err


def drafted(process: "subprocess.Popen[bytes]", began: str) -> bool:
    """Whether part of an output comes to lie in a draft; the job must not end by itself before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not any(path.stat().st_size for path in Path.cwd().glob(began)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"the job ended by itself, with {process.wait(timeout=0.005)}")
    return time.monotonic() < until


def outputs() -> list[str]:
    """out.csv and drafts, as far as they are there."""
    return sorted(path.name for path in Path.cwd().iterdir() if path.name == "out.csv" or path.name.startswith("."))


EVERY_ERROR = {
    "ForetellError": (1, 500),
    "UsageError": (2, 400),
    "OutputError": (1, 500),
    "RejectsExceeded": (4, 500),
    "OutputHeld": (5, 500),
    "LedgerError": (1, 500),
    "ServerError": (1, 503),
    "Overloaded": (1, 503),
    "ModelError": (3, 500),
    "ModelNotFound": (3, 404),
    "RegistryDown": (3, 500),
    "ModelUnreadable": (3, 500),
    "ModelUntrusted": (3, 500),
    "LibraryMissing": (3, 500),
    "InputError": (3, 400),
    "InputUnreadable": (3, 400),
    "InputTooLarge": (3, 413),
    "FormatUnknown": (3, 415),
    "FormWrong": (3, 400),
    "CellWrong": (3, 400),
    "RowRefused": (3, 400),
    "PredictionError": (1, 500),
    "DeadlineExceeded": (1, 504),
}


def every_error() -> Iterator[type[ForetellError]]:
    return (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ForetellError))


def test_every_error_has_its_codes() -> None:
    """Each class of error has an exit code and an HTTP status that were decided here, and a code of its own tree."""
    expected: dict[str, Any] = dict(EVERY_ERROR)
    assert expected == {kind.__name__: (exit_code(made(kind)), status(made(kind))) for kind in every_error()}
    assert set() == {kind for kind in (*EXIT_CODES, *STATUS) if kind not in set(every_error())}
    for kind in every_error():
        assert kind.code and kind.code == kind.code.upper()
        assert kind.__name__ in (errors.__doc__ or "")


def made(kind: type[ForetellError]) -> ForetellError:
    if kind is CellWrong:
        return CellWrong(0, None, "reason")
    if kind is ModelUntrusted:
        return ModelUntrusted("message", "hint", file="file", digest="digest", origin="origin")
    return kind("message")


def test_help_opens_with_when_to_use_which_way() -> None:
    """`foretell models --help` begins with three lines, each on one line, and lists the verbs."""
    ran = foretell("models", "--help")
    assert (0, "") == (ran.code, ran.err)
    lines = ran.out.splitlines()
    assert ["", *(f"  {line}" for line in WHEN), ""] == lines[1:6]
    assert 3 == len(WHEN)
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line.strip()]
    assert ["predict", "serve", "compare", "compile", "inspect", "trust"] == listed


def test_help_lists_the_groups() -> None:
    """`foretell --help` names its groups with a line each."""
    ran = foretell("--help")
    assert (0, "") == (ran.code, ran.err)
    lines = ran.out.splitlines()
    rows = [line.split(maxsplit=1) for line in lines[lines.index("Commands:") + 1 :]]
    assert ["models", "registry", "jobs", "keys", "demo"] == [name for name, _ in rows]
    assert all(line.endswith(".") for _, line in rows)


def test_the_version_is_the_package_s() -> None:
    """--version says what is installed."""
    assert f"foretell, version {package.__version__}\n" == foretell("--version").out


def test_the_demo_twice_and_then_its_own_lines() -> None:
    """`foretell demo` may be run again, and the prediction that it prints works as printed."""
    first, second = foretell("demo"), foretell("demo")
    assert (0, 0, first.out) == (first.code, second.code, second.out)
    printed = [line.strip() for line in first.out.splitlines() if line.startswith("  ")]
    assert 3 == len(printed)
    assert [
        "foretell models predict -m models:/my-model/Production -i batch_input.csv -o batch_output.csv",
        "foretell models serve -m models:/my-model/Production -p 1234",
        "curl -X POST -H 'Content-Type:application/json' -d '{\"data\": [[5.1, 3.5, 1.4, 0.2]]}' "
        "http://localhost:1234/invocations",
    ] == printed
    for _ in range(2):
        ran = foretell(*shlex.split(printed[0])[1:])
        assert (0, "Prediction completed successfully. Output saved to batch_output.csv\n") == (ran.code, ran.out)
    assert ["flower,prediction", "iris-001,0"] == Path("batch_output.csv").read_text().splitlines()[:2]
    assert 151 == len(Path("batch_output.csv").read_text().splitlines())


def test_the_demo_works_where_a_registry_is_named() -> None:
    """With FORETELL_REGISTRY set, the lines that the demo prints still find its model."""
    shown = foretell("demo", FORETELL_REGISTRY="elsewhere")
    assert 0 == shown.code
    line = next(line for line in shown.out.splitlines() if " predict " in line)
    ran = foretell(*shlex.split(line)[1:], FORETELL_REGISTRY="elsewhere")
    assert 0 == ran.code, ran.err


def test_the_demo_keeps_what_is_not_its_own() -> None:
    """An input of the user's with the demo's name is refused, and stays."""
    Path("batch_input.csv").write_text("mine\n")
    assert_error(foretell("demo"), 2, "batch_input.csv", "empty folder")
    assert "mine\n" == Path("batch_input.csv").read_text()
    assert not Path(".foretell").exists()


HEAVY = ("numpy", "pyarrow", "click", "pandas", "sklearn", "mlflow", "rich", "uvicorn")
_RUN = """
from foretell.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    ("script", "arguments", "left_out"),
    [
        pytest.param("import foretell", [], HEAVY, id="import foretell"),
        pytest.param(_RUN, ["--help"], ("numpy", "pyarrow", "pandas", "sklearn"), id="foretell --help"),
        pytest.param(_RUN, ["registry", "list"], ("numpy", "pyarrow", "pandas", "sklearn"), id="registry list"),
        pytest.param(
            _RUN,
            ["models", "predict", "-m", str(MODEL), "-i", "in.csv", "-o", "out.csv"],
            ("pandas", "sklearn", "mlflow", "rich"),
            id="models predict",
        ),
        pytest.param(_RUN, ["models", "inspect", "-m", "{models}/nosignature.skops"], ("torch", "pytest"), id="skops"),
    ],
)
def test_nothing_is_imported_that_is_not_used(
    script: str, arguments: list[str], left_out: tuple[str, ...], models: Path
) -> None:
    """A command loads just the libraries that it needs, so that it starts at once."""
    told = f"{script}\nimport sys\nprint(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", told, *(argument.format(models=models) for argument in arguments)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=PATIENCE,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    loaded = set(ran.stderr.splitlines())
    assert "foretell" in loaded
    assert set() == loaded & set(left_out)


@pytest.mark.parametrize("library", ["skops", "sklearn"])
def test_a_library_that_is_missing_is_named_with_how_to_install_it(models: Path, library: str) -> None:
    """Without a training library, the model that needs it is refused with the command that installs it."""
    absent = f"import sys; sys.modules[{library!r}] = None; from foretell.cli.main import main; main()"
    arguments = ["models", "predict", "-m", str(models / "nosignature.skops"), "-i", str(models / "nosignature.json")]
    ran = subprocess.run([sys.executable, "-c", absent, *arguments], capture_output=True, text=True, check=False)
    assert (3, "") == (ran.returncode, ran.stdout)
    assert f"needs {library}, which is not installed\n  pip install 'foretell[sklearn]'\n" in ran.stderr
    assert 2 == len(ran.stderr.splitlines())


def test_a_finished_command_ends_at_once() -> None:
    """What a library does to a process that is being taken down no longer concerns a command whose work is done."""
    script = """
import atexit, os, sys
class Late:
    def __del__(self):
        os.abort()
sys.late = Late()
atexit.register(print, "registered")
from foretell.cli.main import process
process()
"""
    ran = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=False)
    assert (0, True) == (ran.returncode, ran.stdout.endswith("registered\n")), ran.stderr
