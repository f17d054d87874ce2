"""Alembic's entry: migrations run on the connection that :func:`ledger.database.migrate` opened."""

from alembic import context

import ledger.web_tables  # noqa: F401 - declares its tables
from ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    render_as_batch=True,
)
context.run_migrations()
