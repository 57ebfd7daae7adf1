"""One history of the whole database, the exporter's tables and the monitor's."""
