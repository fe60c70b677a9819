"""The tables of 0.2.0; those of 0.1.0 and of builds before it were revisions 0001 to 0016.

A new registry gets its tables from `store.tables`: this step does nothing. Later ones change what it stands for.
"""

revision = "0017"
down_revision = None
tables = "fc55fb4d5a35a957"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
