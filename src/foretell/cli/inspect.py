"""`foretell models inspect`: a model on one page, without loading it."""

import sys
from typing import Any

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from foretell.cli.opening import casts, naming_options
from foretell.cli.registry import say, say_choice
from foretell.compiler.compile import compared, told
from foretell.compiler.known import Known, known
from foretell.errors import printable
from foretell.models.load import COMPILED
from foretell.models.proven import NATIVE, SIZES, Record, Tried
from foretell.registry.resolve import resolve
from foretell.registry.uri import needs_registry

_WIDTH = 110
_MOST_COLUMNS = 12


@click.command()
@naming_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def inspect(model_uri: str, as_json: bool, registry: str | None, schema: str | None, cast: tuple[str, ...]) -> None:
    """Show a model: version, columns, trust, and what computes it, with what was proven and measured.

    Nothing of the model is loaded. What computes it is known once it was compiled: foretell models compile. What was
    compiled with --cast or --schema is shown with the same.
    """
    resolved = resolve(model_uri, registry, say)
    if needs_registry(model_uri):
        say_choice(registry)
    show(known(resolved, registry, schema=schema, cast=casts(cast)), as_json=as_json)


def show(model: Known, *, as_json: bool) -> None:
    """Prints a model's page."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(model), indent=2))
        return
    console = Console(markup=False, emoji=False, highlight=False, width=None if _is_terminal() else _WIDTH)
    console.print(Group(*_page(_shown(model))))


def _shown(model: Known) -> Known:
    """The same, with what a terminal would obey spelled out: names and reasons are the model's own words."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, dict):
            return {plain(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return msgspec.convert(plain(msgspec.to_builtins(model)), Known)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _page(model: Known) -> list[RenderableType]:
    title = f"{model.model} version {model.version}" if model.version is not None else model.model
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    rows: dict[str, str | Text] = {
        "from": model.registry or model.path,
        "digest": model.digest,
        "files": f"{model.files} file{'s' * (model.files != 1)}, {_bytes(model.bytes)}",
        "flavour": _flavour(model),
        "trust": _trust(model),
        "takes": _takes(model),
        "engine": _engine(model),
    }
    for name, told_ in rows.items():
        facts.add_row(name, told_)
    if model.record is not None:
        for name, told_ in _proof(model.record, model.seen).items():
            facts.add_row(name, told_)
    parts: list[RenderableType] = [Text(title, style="bold"), facts]
    if model.record is not None and any(tried.seconds for tried in model.record.tried):
        parts += ["", _times(model.record)]
    return parts


def _flavour(model: Known) -> str:
    said = ", ".join(part for part in (model.flavour, model.library) if part)
    return f"{said}; saved with {model.saved_with}" if model.saved_with else said


def _trust(model: Known) -> Text:
    if model.trust == "free":
        return Text("loads freely: nothing of it runs", style="green")
    runs = "; ".join(model.runs)
    if model.trust == "trusted":
        return Text(f"trusted; loading runs {runs}")
    return Text(f"needed; loading runs {runs}", style="yellow")


def _takes(model: Known) -> str:
    if model.signature is None:
        return "not known before it is loaded: it has no signature"
    inputs = model.signature["inputs"]
    shown = [f"{c['name'] or at} {c['type']}{list(c.get('shape', ())) or ''}" for at, c in enumerate(inputs)]
    more = f", and {len(shown) - _MOST_COLUMNS} more" if len(shown) > _MOST_COLUMNS else ""
    params = [f"{p['name']} {p['type']} = {p['default']}" for p in model.signature["params"]]
    columns = f"{len(shown)} column{'s' * (len(shown) != 1)}: {', '.join(shown[:_MOST_COLUMNS])}{more}"
    return f"{columns}; params: {', '.join(params)}" if params else columns


def _engine(model: Known) -> Text:
    tried = model.record.of_engine(model.engine) if model.record else None
    if model.record is None and model.flavour == COMPILED:
        return Text(f"{model.engine}: {model.why}", style="yellow")
    if model.record is None:
        return Text("its own library; no other was tried yet: foretell models compile")
    name = tried.label if tried else model.engine
    if model.demoted is not None:
        return Text(f"{name}, in spite of what was compiled: {model.demoted}", style="red")
    return Text.assemble((name, "bold"), f": {model.why}")


def _proof(record: Record, seen: int) -> dict[str, str]:
    """What was compared, and on what the proof stands."""
    proofs = [tried.verified for tried in record.tried if tried.verified is not None]
    if not proofs:
        return {}
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in proofs[0].kinds.items())
    real = f"; and {seen:,} rows of real data" if seen else ""
    sorts = f"{proofs[0].answered:,} that the library answers, {proofs[0].refused:,} that it refuses"
    stands = ", ".join(f"{name} {value}" for name, value in record.made.items() if name not in ("cpu", "blas"))
    return {
        "proven": f"{record.when}, in {record.seconds:.1f} s, alone, in 32 and in 4,096",
        "on rows": f"{sorts}: {kinds}{real}",
        "holds for": f"{stands}, {record.made.get('cpu', '')}",
    }


def _times(record: Record) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("µs a row")
    for size in SIZES:
        table.add_column(f"{size:,} row{'s' * (size != 1)}", justify="right")
    table.add_column("answers")
    native = record.of_engine(NATIVE)
    for tried in record.tried:
        chosen = tried.engine == record.chosen
        cells = [_time(tried, native, size) for size in SIZES]
        table.add_row(f"{tried.label}{' ←' if chosen else ''}", *cells, _answers(tried), style="bold" if chosen else "")
    return table


def _time(tried: Tried, native: Tried | None, size: int) -> str:
    if size not in tried.seconds:
        return "–"
    each = tried.seconds[size] / size * 1e6
    told_ = f"{each:,.0f}" if each >= 100 else f"{each:.1f}" if each >= 1 else f"{each:.3f}"
    if native is None or tried.engine == NATIVE or size not in native.seconds:
        return told_
    return f"{told_} ({native.seconds[size] / tried.seconds[size]:,.1f} x)"


def _answers(tried: Tried) -> Text:
    if tried.engine == NATIVE:
        return Text("the reference")
    if tried.verified is None:
        return Text(tried.why, style="yellow")
    if tried.verified.exact:
        return Text(f"equal to the bit on {compared(tried.verified)}", style="green")
    return Text(f"not equal: {told(tried.verified)}", style="yellow")


def _bytes(count: int) -> str:
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
