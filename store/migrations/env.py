"""Alembic's entry: runs the steps on the connection that `upgrade` passes, within its transaction."""

from alembic import context

from store.tables import RegistryRow

context.configure(connection=context.config.attributes["connection"], target_metadata=RegistryRow.metadata)
with context.begin_transaction():
    context.run_migrations()
