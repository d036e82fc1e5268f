"""The libraries' own engines, called by several threads at once as a job does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import model_path, rows_of
from foretell import predictor
from foretell.batch import Batch, Call
from foretell.frames import to_batch

ROWS, BLOCKS, THREADS = 3000, 12, 4
MODELS = (
    "forest",
    "pipeline",
    "onnx",
    "mlflow3/xgb_classifier",
    "mlflow3/lgb_classifier",
    "mlflow3/cb_classifier",
    "mlflow3/statsmodels",
    "mlflow3/torch_exported",
)


@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_threads(name: str, flavours: Path) -> None:
    """Four threads that predict at once give the bits that one gives."""
    opened = predictor.load(predictor.find(str(model_path(flavours, name)), trust=True, engine="native"))
    _, rows = rows_of(flavours, name)
    batch = to_batch((rows * (ROWS // len(rows) + 1))[:ROWS], opened)
    size = ROWS // BLOCKS
    blocks = [batch[start : start + size] for start in range(0, ROWS, size)]
    call = Call(False, opened.signature.call_params({}))

    def answered(block: Batch) -> list[bytes]:
        values = [output.values for output in opened.predict(block, call).outputs]
        return [repr(each.tolist()).encode() if each.dtype == object else each.tobytes() for each in values]

    alone = [answered(block) for block in blocks]
    with ThreadPoolExecutor(THREADS) as pool:
        assert alone * 3 == list(pool.map(answered, blocks * 3))
