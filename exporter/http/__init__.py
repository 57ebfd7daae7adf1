"""The HTTP surface: the native protocol, OpenAI's and the Open Inference Protocol, one module each.

Raw ASGI rather than a framework: routing, validation and middleware of one cost more than the answer itself.
"""

from exporter.http.application import application

__all__ = ["application"]
