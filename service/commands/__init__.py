"""The commands of `pictoglot` that start processes or open the data root; they need the service installed."""

import typer

from client.terminal import JsonCommand
from service.commands import backup, immich, run


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (run.up, run.serve, run.worker, run.share, run.reindex):
        app.command(rich_help_panel="This machine")(command)
    for each in (run.verify, run.doctor, backup.restore):
        app.command(cls=JsonCommand, rich_help_panel="This machine")(each)
    app.command("backup", cls=JsonCommand, rich_help_panel="This machine")(backup.back_up)
    app.add_typer(run.demo, name="demo", rich_help_panel="This machine")
    app.add_typer(immich.immich, name="immich", rich_help_panel="This machine")
