"""The short ways through a body are no other ways: the same answers and the same refusals as by the long one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Server, model_path, serving

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6, 2.5]] * 6000
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
SHORT, LONG = json.dumps(ROWS[:2]), json.dumps(ROWS)
ANSWERS = {SHORT: [0, 2], LONG: [0, 2] * 6000}


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving("-m", model_path(models, "onnx")) as running:
        yield running


TAKEN = {
    "data": '{"data": %s}',
    "spread": ' \n{\t"data" \r\n : %s \n } \n',
    "instances": '{"instances":%s}',
    "inputs": '{"inputs": %s}',
    "split": '{"dataframe_split": {"data": %s}}',
    "split-with-names": '{"dataframe_split": {"columns": ' + json.dumps(NAMES) + ', "data": %s}}',
    "split-with-null-names": '{"dataframe_split": {"columns": null, "data": %s}}',
    "beside-another-key": '{"other": 1, "data": %s}',
    "with-params": '{"data": %s, "params": {}}',
    "escaped-key": '{"d\\u0061ta": %s}',
}


@pytest.mark.parametrize("rows", [SHORT, LONG], ids=["two-rows", "12000-rows"])
@pytest.mark.parametrize("form", TAKEN.values(), ids=TAKEN.keys())
def test_rows_are_read_alike_in_every_form(server: Server, form: str, rows: str) -> None:
    """However few or many they are, whatever stands around them."""
    reply = server.post(form % rows)
    assert (200, ANSWERS[rows]) == (reply.status, reply.json().get("predictions"))


REFUSED = {
    "no-brace": '{"data": %s',
    "two-braces": '{"data": %s}}',
    "comma-behind": '{"data": %s,}',
    "key-twice": '{"data": %s, "data": []}',
    "split-key-twice": '{"dataframe_split": {"data": [], "data": %s}}',
    "names-twice": '{"dataframe_split": {"columns": null, "columns": null, "data": %s}}',
    "two-forms": '{"data": [], "dataframe_split": {"data": %s}}',
    "form-feed": '{"data":\x0c%s}',
    "space-in-the-key": '{"da ta": %s}',
    "bare-key": "{data: %s}",
    "no-rows-key": '{"rows": %s}',
}
TORN = {
    "last-comma": lambda rows: rows[:-1] + ",]",
    "two-commas": lambda rows: rows.replace("], [", "],, [", 1),
    "no-comma": lambda rows: rows[::-1].replace("[ ,]", "[ ]", 1)[::-1],
    "text-between": lambda rows: rows[::-1].replace("[ ,]", "[x ,]", 1)[::-1],
    "short-row": lambda rows: rows[:-6] + "]]",
    "text-cell": lambda rows: rows[:-5] + '"2.5"]]',
    "cut-off": lambda rows: rows[:-1],
    "empty-row": lambda rows: rows[:-1] + ", []]",
    "vertical-tab": lambda rows: rows[:-1] + "\x0b]",
}


@pytest.mark.parametrize("rows", [SHORT, LONG], ids=["two-rows", "12000-rows"])
@pytest.mark.parametrize("form", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_around_rows_is_refused(server: Server, form: str, rows: str) -> None:
    """400, also where the short way never looks there."""
    assert 400 == server.post(form % rows).status


@pytest.mark.parametrize("rows", [SHORT, LONG], ids=["two-rows", "12000-rows"])
@pytest.mark.parametrize("tear", TORN.values(), ids=TORN.keys())
def test_what_is_wrong_in_rows_is_refused(server: Server, tear: Callable[[str], str], rows: str) -> None:
    """400 with a place, in the first piece of a large body or in its last."""
    reply = server.post('{"data": ' + tear(rows) + "}")
    assert 400 == reply.status
    assert "byte" in reply.json()["message"] or "$.data[" in reply.json()["message"]
