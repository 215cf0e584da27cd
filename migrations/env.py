"""Alembic's entry point: applies migrations to the connection that `app.database.engine.upgrade` hands
over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)

with context.begin_transaction():
    context.run_migrations()
