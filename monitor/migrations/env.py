"""Called by Alembic; `monitor.migrate` passes the connection, whose transaction holds the whole upgrade."""

from __future__ import annotations

from alembic import context

import monitor.tables  # noqa: F401  # adds its tables to the metadata
from exporter.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # on SQLite too: open_database begins transactions itself
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
