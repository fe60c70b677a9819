"""The demo's commands: `python -m demo dataset|fill|notice|digest`."""

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import typer

from demo import dataset as datasets
from demo.fill import fill as fill_gallery
from demo.gallery import digest as digest_of
from demo.gallery import outlines

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.command()
def dataset(
    tag: Annotated[str, typer.Argument(help="ar de es fa fr id it ja ko pt ru tr zh")],
    out: Annotated[Path | None, typer.Option(help="A file to write; without it, standard output")] = None,
) -> None:
    """Write the learning dataset of a language for the demo gallery as JSON lines."""
    try:
        lines = datasets.lines(tag)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if out is None:
        typer.echo(lines, nl=False)
    else:
        out.write_text(lines, encoding="utf-8")


@app.command()
def fill(
    url: Annotated[str, typer.Option(envvar="PICTOGLOT_URL", help="The service")] = "http://127.0.0.1:8321",
    key: Annotated[str, typer.Option(envvar="PICTOGLOT_KEY", help="A key that may write")] = "",
) -> None:
    """Put the pictures that the service lacks into its gallery."""
    try:
        put = asyncio.run(fill_gallery(url, key))
    except* httpx.HTTPError as errors:
        typer.echo(f"The gallery could not be filled: {errors.exceptions[0]}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{put} pictures put, {len(outlines()) - put} were there.")


@app.command()
def notice() -> None:
    """Print whose drawings and names these are, and under which licences."""
    typer.echo((Path(__file__).parent / "NOTICE.md").read_text(encoding="utf-8"), nl=False)


@app.command()
def digest() -> None:
    """Print the sha256 over ids, captions and pixels of the whole gallery: the same on every machine."""
    typer.echo(digest_of(outlines()))


if __name__ == "__main__":
    app()
