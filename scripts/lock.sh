#!/bin/sh
# Pins every requirement with its hashes, naming no index. Run after changing pyproject.toml or requirements/*.in.
set -eu
cd "$(dirname "$0")/.."
compile() { "${UV:-.venv/bin/uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"; }
flavours="--extra catboost --extra lightgbm --extra mlflow --extra onnx --extra sklearn --extra statsmodels --extra xgboost"
# shellcheck disable=SC2086
compile $flavours --extra otel --extra uv pyproject.toml requirements/build.in requirements/dev.in -o requirements/dev.txt
compile --extra sklearn pyproject.toml requirements/build.in -c requirements/dev.txt -o requirements/run.txt
compile requirements/mlflow2.in -o requirements/mlflow2.txt
compile requirements/tool.in -o requirements/tool.txt
