"""Trains the iris classifier and writes iris.skops and batch_input.csv into the current folder. Needs scikit-learn."""

from pathlib import Path

import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers = load_iris(as_frame=True)
classifier = LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target)
skops.io.dump(classifier, "iris.skops")
rows = flowers.data.copy()
rows.insert(0, "flower", [f"iris-{at:03}" for at in range(1, len(rows) + 1)])
Path("batch_input.csv").write_text(rows.to_csv(index=False))
print(f"Trained on {len(rows)} flowers: iris.skops. Their measures: batch_input.csv.")
