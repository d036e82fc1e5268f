"""`foretell models …`: predict and serve with a model, and trust one."""

import click

from foretell.cli.predict import predict
from foretell.cli.serve import serve
from foretell.cli.trusting import trust

WHEN = (
    "predict: the rows are there already (a file, last night's orders). Most rows a second, nothing kept running.",
    "serve:   somebody waits for the answer (a page, a payment). One row in milliseconds, as long as it runs.",
    "Both give the same answers. Unsure? If an hour-old answer still helps, predict; if not, serve.",
)
"""When to use which way, in three lines; the server's page shows them too."""


@click.group(name="models", help="\b\n" + "\n".join(WHEN))
def command() -> None:
    """See WHEN."""


command.add_command(predict)
command.add_command(serve)
command.add_command(trust)
