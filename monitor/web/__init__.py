"""The monitor's HTTP side: the status page, what people may do on it, reports, health and metrics."""

from monitor.web.app import status_app

__all__ = ["status_app"]
