"""The demo's commands: `python -m demo dataset|fill|notice|digest|screenshots`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from demo import dataset as datasets
from demo import screenshots as pages
from demo.fill import fill as fill_gallery
from demo.gallery import digest as compute_digest
from demo.gallery import list_outlines
from demo.shots import NotPossible

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.command("dataset")
def write_dataset(
    tag: Annotated[str, typer.Argument(help="ar de es fa fr id it ja ko pt ru tr zh")],
    out: Annotated[Path | None, typer.Option(help="File to write; without it, standard output")] = None,
) -> None:
    """Write the dataset of a language for the demo gallery as JSON lines."""
    try:
        lines = datasets.format_lines(tag)
    except ValueError as error:
        words = shlex.join([sys.executable, "-m", "benchmarks.stamps", "words", tag, "--out", f"{tag}.jsonl"])
        typer.echo(f"{error}.\nFor many others, this has them as a dataset, in a checkout and with npm:", err=True)
        typer.echo(f"  {words}", err=True)
        raise typer.Exit(2) from None
    if out is None:
        typer.echo(lines, nl=False)
        return
    try:
        out.write_text(lines, encoding="utf-8")
    except OSError as error:
        typer.echo(f"{out} cannot be written: {error.strerror}.", err=True)
        raise typer.Exit(1) from None


@app.command()
def fill(
    url: Annotated[str, typer.Option(envvar="PICTOGLOT_URL", help="Address of the service")] = "http://127.0.0.1:8321",
    key: Annotated[str, typer.Option(envvar="PICTOGLOT_KEY", help="Key with the scope write")] = "",
) -> None:
    """Put the pictures that are missing into the gallery of a service."""
    try:
        put = fill_gallery(url, key)
    except httpx.HTTPError as error:
        typer.echo(f"The gallery could not be filled: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{put} pictures were added, {len(list_outlines()) - put} were there already.")


@app.command()
def notice() -> None:
    """Print the authors and licences of the drawings and names."""
    typer.echo((Path(__file__).parent / "NOTICE.md").read_text(encoding="utf-8"), nl=False)


@app.command()
def digest() -> None:
    """Print the SHA-256 over ids, captions and pixels of the whole gallery: the same on every machine."""
    typer.echo(compute_digest(list_outlines()))


@app.command("screenshots")
def take_screenshots(
    names: Annotated[list[str] | None, typer.Argument(help="Some of them by name; without, all")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; in a checkout, docs/screenshots/")] = None,
) -> None:
    """Start a demo of its own, teach it four languages, take the pictures of docs/screenshots/, and stop it again.

    The same with photographs (`photographs`, `photographs-pivot`), which are fetched by pip and npm.
    """
    try:
        pages.take_all(out, names or [])
    except NotPossible as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def main(name: str) -> None:
    """Run the command line under the name by which somebody called it."""
    app(prog_name=f"{name} demo")


if __name__ == "__main__":
    app()
