"""`language`: a taught language as a file, for other services with the same base."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import build_path, open_service
from ..output import FILE, AsJson, format_size, print_json, print_result, say
from .export import download
from .languages import conclude, watch_expansion
from .learn import Force
from .terms import Tag, summarize_terms

language = typer.Typer(help="Take a taught language elsewhere: as a file, and from one.", no_args_is_help=True)


@language.command("export")
def export_language(
    tag: Tag,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="The file; by default TAG.pictoglot.")
    ] = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign it with the key of the service's data root.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a taught language as a file; it needs an admin key, since the file holds texts of its dataset."""
    file = out or Path(f"{tag}.pictoglot")
    with open_service(upload=True) as client:
        download(client, f"{build_path('/v1/languages', tag)}/file?sign={'true' if sign else 'false'}", file)
    size = file.stat().st_size
    print_result({"file": str(file), "bytes": size, "language": tag}, as_json, f"{file}, {format_size(size)}.")


@language.command("import")
def import_language(
    file: Annotated[Path, typer.Argument(help="A file of `export`.", **FILE)],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the progress until it ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is in the file.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Import a language from a file: it is measured here, and served if it passes the gate."""
    with open_service(upload=True) as client, file.open("rb") as stream:
        answer: Any = client.import_language({"file": (file.name, stream), "dry_run": dry_run, "force": force})
        if dry_run:
            print_json(answer) if as_json else _show(answer)
            return
        expansion: dict[str, Any] = answer["expansion"]
        if watch:
            expansion = watch_expansion(client, expansion, quiet=as_json)
    conclude(expansion, watch, as_json)


def _show(item: dict[str, Any]) -> None:
    about = f"{item['rows']:,} rows for base {item['base']}, {item['learned_at'][:10]}"
    say(f"{item['name']} ({item['language']}), {about}.")
    if item["recall"] is not None:
        say(f"Where it was taught, R@10 of {item['pairs']:,} held-out captions is {100 * item['recall']:.1f} %.")
    say(f"Terms: {summarize_terms(item['terms'])}" if item["terms"] else "Nothing is said of its terms.")
    say(f"Signed with the key {item['signer']}; ask whoever gave it to you whether that is theirs." if item["signer"]
        else "Nobody signed it.")  # fmt: skip
