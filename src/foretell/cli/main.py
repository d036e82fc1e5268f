"""The `foretell` command: its groups, loaded when they are called, and what a person sees when something is wrong."""

import atexit
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO, TypeVar

import click

from foretell import __version__, imports
from foretell.errors import ForetellError, InputError, ModelError, OutputHeld, RejectsExceeded, UsageError

EXIT_CODES: dict[type[ForetellError], int] = {
    ForetellError: 1,
    UsageError: 2,
    ModelError: 3,
    InputError: 3,
    RejectsExceeded: 4,
    OutputHeld: 5,
}
"""By class, the nearest in its own ancestry: 1 failed, 2 usage, 3 model or input cannot be read or is bad, 4 more
bad rows than were allowed, 5 the output waits beside the older one."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Lazy(click.Group):
    """A group that imports a command when it is called, and not to list it.

    commands: by name, the module, the command in it, and its line in the list; without a line it is not listed.
    before: called before a command is imported.
    """

    def __init__(
        self,
        *arguments: Any,
        commands: dict[str, tuple[str, str, str]],
        before: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self._lazy = commands
        self._before = before

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (_, _, line) in self._lazy.items() if line]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return None
        module, command, _ = self._lazy[name]
        self._before()
        found: click.Command = getattr(importlib.import_module(module), command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self._lazy.items() if line])


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
    commands={
        "models": ("foretell.cli.models", "command", "Predict with a model, in batch or in real time."),
        "registry": ("foretell.cli.registry", "command", "Keep models by name, version, stage and alias."),
        "jobs": ("foretell.cli.jobs", "command", "List the jobs that ran here, show one, or go on with it."),
        "keys": ("foretell.cli.keys", "command", "Make and remove the keys of those who may ask a server."),
        "demo": ("foretell.cli.demo", "command", "Put a tiny model and its input here, to try foretell on."),
    },
)
@click.version_option(__version__, prog_name="foretell")
def foretell() -> None:
    """Run a trained model both ways: batch prediction over files and real-time serving, with the same answers."""


def process() -> NoReturn:
    """The command line as a process of its own, which ends at once when its work is done: a library that still starts
    threads then, as Arrow and CatBoost do now and then, would abort it."""
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def main() -> NoReturn:
    """Runs the command line and exits with its code."""
    try:
        foretell.main(prog_name="foretell", standalone_mode=False)
        sys.stdout.flush()
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.Abort:
        click.echo("\nStopped; nothing was changed.", err=True)
        code = 130
    except KeyboardInterrupt:
        click.echo("\nStopped; an output that was there is as it was.", err=True)
        code = 130
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "foretell"
        show_error(UsageError(error.format_message().replace("\n", " "), f"See: {command} --help"))
        code = error.exit_code
    except BrokenPipeError:
        code = 141
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ForetellError as error:
        show_error(error)
        code = exit_code(error)
    sys.exit(code)


def exit_code(error: ForetellError) -> int:
    """The process's exit code for an error."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def show_error(error: ForetellError) -> None:
    """One line for what and where, one for what to do; with FORETELL_DEBUG set, the traceback too."""
    if os.environ.get("FORETELL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    for detail in error.details:
        click.echo(f"  {detail}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Standard output, for what foretell promises to write there and nothing else: meanwhile what a model prints, from
    Python or below, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def without_pandas() -> None:
    """Keeps pyarrow from importing pandas, if it is installed, at its first array: 0.4 s to recognise frames that no
    command ever gives it. A model that needs pandas still imports it."""
    import pyarrow

    imports.alone()
    with imports.without("pandas"), contextlib.suppress(AttributeError, ImportError):
        pyarrow.array([])


def option(name: str, *flags: str, **more: Any) -> Callable[[Decorated], Decorated]:
    """A click option for a setting: default, environment and help come from config."""
    from foretell.config import SETTINGS

    setting = SETTINGS[name]
    more.setdefault("show_default", setting.default is not None and not more.get("is_flag"))
    return click.option(
        *(flags or (f"--{name.replace('_', '-')}",)),
        name,
        default=setting.default,
        envvar=list(setting.environment) or None,
        show_envvar=bool(setting.environment),
        help=setting.help,
        **more,
    )
