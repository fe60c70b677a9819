"""The tables of 0.2.0; those of its builds before, and of 0.1.0, are refused.

A new registry gets its tables from `store.tables`: this step does nothing. Later ones change what it stands for.
"""

revision = "0029"
down_revision = None
tables = "474ccad8caa97321"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
