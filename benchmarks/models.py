"""The models that servers are measured with, trained anew: iris, xgb500 (500 trees) and mixed (a pipeline with text).

Each is a folder in MLflow's format, with model.cloudpickle beside it for servers that know no such folders.
"""

import subprocess
import sys

TRAIN = """
import cloudpickle, mlflow, numpy as np, pandas as pd, sklearn.datasets, xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
flowers = sklearn.datasets.load_iris(as_frame=True)
def save(model, frame, name, save=mlflow.sklearn.save_model, **more):
    save(model, name, signature=mlflow.models.infer_signature(frame, model.predict(frame)), pip_requirements=[], **more)
    with open(f"{name}.cloudpickle", "wb") as file:
        cloudpickle.dump(model, file)
skops = {"serialization_format": "skops"}
save(LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target), flowers.data, "iris", **skops)
random = np.random.default_rng(7)
wide = pd.DataFrame(random.normal(size=(4000, 30)), columns=[f"x{at}" for at in range(30)])
labels = (wide.sum(axis=1) > 0).astype(int)
save(xgboost.XGBClassifier(n_estimators=500, max_depth=6).fit(wide, labels), wide, "xgb500", mlflow.xgboost.save_model)
mixed = pd.DataFrame({"age": random.normal(40, 9, 4000), "pay": random.lognormal(8, 1, 4000),
                      "city": random.choice(["Oslo", "Rome", "Lima"], 4000)})
prepared = ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "pay"]),
                              ("words", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["city"])])
pipeline = make_pipeline(prepared, HistGradientBoostingClassifier()).fit(mixed, mixed.age + mixed.pay / 99 > 70)
save(pipeline, mixed, "mixed", serialization_format="cloudpickle")
"""
COLUMNS = {
    "iris": [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")],
    "xgb500": [f"x{at}" for at in range(30)],
    "mixed": ["age", "pay", "city"],
}
ROWS = {"iris": [5.1, 3.5, 1.4, 0.2], "xgb500": [at / 10 for at in range(30)], "mixed": [41.5, 3200.0, "Oslo"]}


def body(name: str) -> dict[str, object]:
    """A request of one row."""
    return {"dataframe_split": {"columns": COLUMNS[name], "data": [ROWS[name]]}}


def make(names: list[str]) -> None:
    """Trains them in the current folder, and compiles those that foretell will serve."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN], check=True, capture_output=True)
    for name in names:
        compiled = [sys.executable, "-m", "foretell", "models", "compile", "--trust", "-m", name]
        subprocess.run(compiled, check=False, capture_output=True)
