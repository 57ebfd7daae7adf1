"""Where a webhook may go: names are resolved once, private addresses refused, the connection is pinned."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from monitor.errors import MonitorError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that was ever given out (RFC 4291); others may wrap IPv4


class AddressError(MonitorError):
    """The host cannot be used."""


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could have this address, also where it wraps another one.

    >>> [is_public(ipaddress.ip_address(one)) for one in ("93.184.216.34", "10.0.0.1", "169.254.169.254")]
    [True, False, False]
    >>> [is_public(ipaddress.ip_address(one)) for one in ("::ffff:127.0.0.1", "64:ff9b::a00:1", "fe80::1")]
    [False, False, False]
    >>> [is_public(ipaddress.ip_address(one)) for one in ("2606:2800::1", "::127.0.0.1", "64:ff9b:1::7f00:1")]
    [True, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int, *, allow_private: bool) -> list[tuple[str, int]]:
    """Addresses of the host; AddressError where it has none, or any of them is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError("its host has no address.") from error
    addresses = [str(one[4][0]) for one in found]
    if not allow_private and not all(is_public(_parsed(one)) for one in addresses):
        raise AddressError("its host is not public; [monitor] allow_private = true allows that.")
    return [(one, port) for one in dict.fromkeys(addresses)]


class Pinned(http.client.HTTPConnection):
    """A connection to given addresses, whatever the name resolves to by now; TLS still checks the name."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        addresses: Sequence[tuple[str, int]],
        tls: ssl.SSLContext | None,
        timeout_s: float,
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._addresses, self._tls = addresses, tls
        self._hung_up = False

    def connect(self) -> None:
        self.sock = self._first_that_answers()
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
        if self._hung_up:
            raise TimeoutError

    def _first_that_answers(self) -> socket.socket:
        *before, last = self._addresses
        for address in before:
            with suppress(OSError):
                return socket.create_connection(address, self.timeout)
        return socket.create_connection(last, self.timeout)

    def hang_up(self) -> None:
        """End it from another thread: whoever reads or writes meets an error."""
        self._hung_up = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _parsed(address: str) -> Address:
    return ipaddress.ip_address(address.partition("%")[0])
