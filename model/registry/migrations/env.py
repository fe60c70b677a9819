"""Alembic's entry: runs the steps on the connection that `upgrade` passes, within its transaction."""

from alembic import context

from model.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
