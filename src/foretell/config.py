"""What both doors show and take: when to use which way, and every setting with its default, environment and one line.

Precedence: default < environment < flag. Settings stop at the doors: `cli` unpacks them into plain arguments.
"""

from dataclasses import dataclass
from typing import Any

WHEN = (
    "predict: the rows are there already (a file, last night's orders). Most rows a second, nothing kept running.",
    "serve:   somebody waits for the answer (a page, a payment). One row in milliseconds, as long as it runs.",
    "Both give the same answers. Unsure? If an hour-old answer still helps, predict; if not, serve.",
)
"""When to use which way, in three lines."""


@dataclass(frozen=True)
class Setting:
    """One setting. environment: the variables that set it, the stronger first."""

    default: Any
    help: str
    environment: tuple[str, ...] = ()


ENGINES = ("auto", "native", "kernel", "booster", "onnx")
"""What --engine may be. auto and native are ways to choose; the others are engines by name."""

SETTINGS = {
    "registry": Setting(
        None,
        "The registry: a folder, sqlite:///mlflow.db, or a tracking server's http://…; else FORETELL_REGISTRY, "
        "MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI, or the nearest of .foretell/registry, mlflow.db and mlruns, here or "
        "above.",
    ),
    "engine": Setting(
        "auto",
        "What computes: auto for what was proven equal to the model's library, else that; native for the library; or "
        "an engine by name, also where it rounds otherwise.",
        ("FORETELL_ENGINE",),
    ),
    "trust": Setting(False, "Let this very model run code when it loads, as pickles do."),
    "schema": Setting(None, "A file that describes the model's columns, in place of its signature."),
    "host": Setting(
        None, "Address to listen on; by default both loopback addresses.", ("FORETELL_HOST", "MLFLOW_HOST")
    ),
    "port": Setting(8080, "Port to listen on; 0 for a free one.", ("FORETELL_PORT", "MLFLOW_PORT")),
    "timeout": Setting(
        60.0,
        "Seconds after which a request is given up.",
        ("FORETELL_TIMEOUT", "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"),
    ),
    "workers": Setting(1, "Server processes.", ("FORETELL_WORKERS", "MLFLOW_MODELS_WORKERS")),
    "max_body_mb": Setting(64, "Largest request body, in MiB.", ("FORETELL_MAX_BODY_MB",)),
    "access_log": Setting("errors", "Requests to log: all, errors (and what is not a prediction), or none."),
}
