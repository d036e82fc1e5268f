"""What both doors show and take: when to use which way, and every setting with its default, environment and one line.

Precedence: default < environment < flag. Settings stop at the doors: `cli` unpacks them into plain arguments.
"""

from dataclasses import dataclass
from typing import Any

WHEN = (
    "predict: the rows are there already (a file, last night's orders). Most rows a second, nothing kept running.",
    "serve:   somebody waits for the answer (a page, a payment). One row in milliseconds, as long as it runs.",
    "Both give the same answers. Unsure? foretell models compare measures both on your model, and tells.",
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

LOOPS = ("uvloop", "asyncio")
"""Event loops that --loop may name."""

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
    "config": Setting(None, "A file (TOML) of the models to serve, with limits of their own.", ("FORETELL_CONFIG",)),
    "state": Setting(
        None,
        "Folder of the ledger of jobs; by default foretell/ in XDG_STATE_HOME or ~/.local/state.",
        ("FORETELL_STATE",),
    ),
    "keep_jobs": Setting(1000, "Jobs that the ledger keeps; the oldest are forgotten.", ("FORETELL_KEEP_JOBS",)),
    "follow": Setting(
        False, "Serve what a stage, an alias or latest means later, too, as soon as it does.", ("FORETELL_FOLLOW",)
    ),
    "poll_seconds": Setting(
        15.0,
        "Seconds between two looks for a newer version, of what is no fixed version; 0 for none.",
        ("FORETELL_POLL_SECONDS",),
    ),
    "load_timeout": Setting(
        300.0, "Seconds that another version may take to load, before it is given up.", ("FORETELL_LOAD_TIMEOUT",)
    ),
    "allow_signature_change": Setting(
        False, "Let another version take or give something else.", ("FORETELL_ALLOW_SIGNATURE_CHANGE",)
    ),
    "shadow": Setting(
        None,
        "Another model, which gets the same rows: its answers are compared and counted, and never returned.",
        ("FORETELL_SHADOW",),
    ),
    "host": Setting(
        None, "Address to listen on; by default both loopback addresses.", ("FORETELL_HOST", "MLFLOW_HOST")
    ),
    "port": Setting(8080, "Port to listen on; 0 for a free one.", ("FORETELL_PORT", "MLFLOW_PORT")),
    "timeout": Setting(
        60.0,
        "Seconds after which a request is given up; one may ask for less with X-Request-Timeout-Ms.",
        ("FORETELL_TIMEOUT", "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"),
    ),
    "workers": Setting(1, "Server processes.", ("FORETELL_WORKERS", "MLFLOW_MODELS_WORKERS")),
    "max_batch_size": Setting(4096, "Most rows that are predicted in one call.", ("FORETELL_MAX_BATCH_SIZE",)),
    "max_queue_delay_ms": Setting(
        0.0,
        "Milliseconds that a batch may wait for more rows. Without it a batch is what came while the last one ran.",
        ("FORETELL_MAX_QUEUE_DELAY_MS",),
    ),
    "max_queue": Setting(
        1024, "Most requests that wait for the model; more are refused with 503.", ("FORETELL_MAX_QUEUE",)
    ),
    "max_body_mb": Setting(64, "Largest request body, in MiB, also when it is unpacked.", ("FORETELL_MAX_BODY_MB",)),
    "max_in_flight_mb": Setting(
        None,
        "Most bytes of request bodies held at a time, in MiB; by default a quarter of the memory, shared by workers.",
        ("FORETELL_MAX_IN_FLIGHT_MB",),
    ),
    "max_header_kb": Setting(64, "Largest request head, in KiB.", ("FORETELL_MAX_HEADER_KB",)),
    "max_connections": Setting(
        10_000, "Most connections of one process, as far as it may open files.", ("FORETELL_MAX_CONNECTIONS",)
    ),
    "header_timeout": Setting(10.0, "Seconds that a request's head may take to arrive.", ("FORETELL_HEADER_TIMEOUT",)),
    "body_timeout": Setting(10.0, "Seconds that a body may pause while it arrives.", ("FORETELL_BODY_TIMEOUT",)),
    "min_body_rate": Setting(240, "Bytes a second that a body must bring on average.", ("FORETELL_MIN_BODY_RATE",)),
    "write_timeout": Setting(
        30.0, "Seconds that a client may take nothing of its answer.", ("FORETELL_WRITE_TIMEOUT",)
    ),
    "keep_alive": Setting(75.0, "Seconds that a connection may wait for its next request.", ("FORETELL_KEEP_ALIVE",)),
    "drain_delay": Setting(
        None,
        "Seconds for which SIGTERM still lets connections in, so that balancers can look away; by default 5, or 0 on "
        "loopback.",
        ("FORETELL_DRAIN_DELAY",),
    ),
    "api_key_file": Setting(
        None, "File of the keys of those who may ask; foretell keys new makes them.", ("FORETELL_API_KEY_FILE",)
    ),
    "tls_cert": Setting(
        None, "Certificate, with its chain, to serve HTTPS by; PEM. A renewed one is noticed.", ("FORETELL_TLS_CERT",)
    ),
    "tls_key": Setting(None, "The certificate's key; by default in the same file.", ("FORETELL_TLS_KEY",)),
    "tls_client_ca": Setting(
        None, "Only clients with a certificate by this authority may ask.", ("FORETELL_TLS_CLIENT_CA",)
    ),
    "insecure": Setting(
        False, "Let everybody ask who can reach an address that is not loopback.", ("FORETELL_INSECURE",)
    ),
    "allowed_hosts": Setting(
        None,
        "Names that the server may be called by: api.example.com,*.example.org. By default those of this machine on "
        "loopback, and any elsewhere.",
        ("FORETELL_ALLOWED_HOSTS",),
    ),
    "admin_port": Setting(
        None, "Port of its own for /admin and /metrics, which the other then has not.", ("FORETELL_ADMIN_PORT",)
    ),
    "admin_host": Setting(
        None, "Address of the admin port; by default both loopback addresses.", ("FORETELL_ADMIN_HOST",)
    ),
    "loop": Setting("uvloop", "Event loop: uvloop, or the slower asyncio of Python itself.", ("FORETELL_LOOP",)),
    "access_log": Setting(
        "errors", "Requests to log: all, errors (and what is not a prediction), or none.", ("FORETELL_ACCESS_LOG",)
    ),
    "access_log_format": Setting(
        "text", "A line a request as text, or as json with its rows and times.", ("FORETELL_ACCESS_LOG_FORMAT",)
    ),
    "otel_endpoint": Setting(
        None,
        "Collector to send traces to by OTLP over HTTP, as http://localhost:4318; else OTEL_EXPORTER_OTLP_ENDPOINT.",
        ("FORETELL_OTEL_ENDPOINT",),
    ),
    "log_predictions": Setting(
        None, "Folder to keep requests' rows and answers in, as Parquet files.", ("FORETELL_LOG_PREDICTIONS",)
    ),
    "log_sample": Setting(1.0, "Share of requests that are kept there, from 0 to 1.", ("FORETELL_LOG_SAMPLE",)),
    "log_predictions_mb": Setting(
        1024, "Most that the folder may hold, in MiB; then the oldest files go.", ("FORETELL_LOG_PREDICTIONS_MB",)
    ),
}
