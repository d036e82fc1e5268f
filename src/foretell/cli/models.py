"""`foretell models …`: predict and serve with a model, and trust one."""

import click

from foretell.cli.predict import predict
from foretell.cli.serve import serve, worker
from foretell.cli.trusting import trust
from foretell.config import WHEN


@click.group(name="models", help="\b\n" + "\n".join(WHEN))
def command() -> None:
    """Its help is WHEN."""


command.add_command(predict)
command.add_command(serve)
command.add_command(worker)
command.add_command(trust)
