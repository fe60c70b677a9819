"""The commands of `pictoglot` that start processes or open the data root; they need the service installed."""

import typer

from service.commands import backup, immich, run


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (
        run.up, run.serve, run.worker, run.share, run.reindex, run.verify, run.doctor,
        backup.restore,
    ):  # fmt: skip
        app.command(rich_help_panel="This machine")(command)
    app.command("backup", rich_help_panel="This machine")(backup.back_up)
    app.add_typer(run.demo, name="demo", rich_help_panel="This machine")
    app.add_typer(immich.immich, name="immich", rich_help_panel="This machine")
