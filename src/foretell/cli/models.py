"""`foretell models …`: predict and serve with a model, compile and inspect one, trust one."""

import click

from foretell.cli.main import Lazy, without_pandas
from foretell.config import WHEN


@click.group(
    name="models",
    cls=Lazy,
    help="\b\n" + "\n".join(WHEN),
    before=without_pandas,
    commands={
        "predict": ("foretell.cli.predict", "predict", "Predict every row of a file."),
        "serve": ("foretell.cli.serve", "serve", "Answer requests for predictions over HTTP."),
        "compare": ("foretell.cli.compare", "compare", "Measure both ways on your model, and say which to use."),
        "compile": ("foretell.cli.compile", "compile_", "Make a faster engine for a model, and prove it equal."),
        "inspect": ("foretell.cli.inspect", "inspect", "Show what a model takes, gives, and is computed by."),
        "trust": ("foretell.cli.trusting", "trust", "Let a model run code when it loads, as pickles do."),
        "serve-worker": ("foretell.cli.serve", "worker", ""),
    },
)
def command() -> None:
    """Its help is WHEN."""
