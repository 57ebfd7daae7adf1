"""Predictions into the database by its fastest door: COPY on PostgreSQL, one prepared statement on SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import OperationalError

from exporter.prediction import Prediction, columns
from exporter.tables import predictions

_NAMES = [column.name for column in predictions.columns if column.name != "seq"]
_JSON = ("scores", "metadata", "descriptors")
_COPY = f"COPY predictions ({', '.join(_NAMES)}) FROM STDIN"


def insert_predictions(connection: Connection, rows: Sequence[Prediction]) -> Sequence[int]:
    """Serial numbers in the order of `rows`; the caller holds the lock under which rows are stored."""
    before = connection.scalar(select(func.max(predictions.c.seq))) or 0
    if connection.dialect.name == "postgresql":
        _copy(connection, rows)
    else:
        connection.execute(insert(predictions), [columns(row) for row in rows])
    query = select(predictions.c.seq).where(predictions.c.seq > before).order_by(predictions.c.seq)
    return connection.scalars(query).all()


def _copy(connection: Connection, rows: Sequence[Prediction]) -> None:
    """Raises OperationalError by its kind only: the driver's own message quotes the row."""
    driver = connection.connection.driver_connection
    assert driver is not None
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in rows:
                values = columns(row)
                for name in _JSON:
                    values[name] = None if values[name] is None else json.dumps(values[name])
                copy.write_row([values[name] for name in _NAMES])
    except connection.dialect.loaded_dbapi.Error as error:
        raise OperationalError("COPY predictions", None, Exception(type(error).__name__)) from None
