"""The tables of the first builds of 0.2.0 that are migrated; those of others, and of 0.1.0, are refused.

A new registry gets its tables from `store.tables`: this step does nothing. Later ones change what it stands for.
"""

revision = "0025"
down_revision = None
tables = "bec9867ae3094eb7"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
