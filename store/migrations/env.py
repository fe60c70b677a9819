"""Alembic's entry: runs the steps on the connection that `upgrade` passes, within its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
