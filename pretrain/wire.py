"""Lines of JSON over TCP between the ranks of a run; see :mod:`pretrain.lifeline`."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import selectors
import socket
from typing import Any
from weakref import WeakSet

_MOST = 64 * 1024  # bytes of a line; nobody of the run sends a longer one


class Peer:
    """The other end of a connection.

    Attributes:
        rank: of the process there, -1 before it has introduced itself.
        name: what to call it in a message.
        doing: what it was at when it was last heard of.
        heard: it has heard our last word.
        left: it has said good-bye or is known to be gone; its silence means nothing any more.
        silent_s: how long nothing was heard of it.
        unsaid_s: how long nothing was said to it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self.connection = connection
        self.rank, self.name, self.doing = -1, "an unknown process", "started"
        self.heard = self.left = False
        self.silent_s = self.unsaid_s = 0.0
        self._received, self._unsent = b"", b""

    def send(self, message: dict[str, Any]) -> None:
        """Sends what fits into the connection now, the rest with the next message; a peer that is gone gets nothing."""
        self._unsent += json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            while self._unsent:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]
        self._unsent = self._unsent[-_MOST:]  # of a stopped peer, which will not read it

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None when the connection is closed, or is none of this run."""
        try:
            while chunk := self.connection.recv(_MOST):
                self._received += chunk
                if len(self._received) > _MOST:
                    return None
            closed = True
        except BlockingIOError:
            closed = False
        except OSError:
            closed = True
        *lines, self._received = self._received.split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        if not all(isinstance(message, dict) for message in messages):
            return None
        return None if closed and not messages else messages


class Wire:
    """All connections of this process, and on rank 0 the place where the others connect to."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._server: socket.socket | None = None
        self._secret = ""
        _OPEN.add(self)

    def listen(self, secret: str, local: bool) -> int:
        """Opens a port, on this host alone if ``local``; who connects must say ``secret`` first."""
        self._server = _open("127.0.0.1") if local else _open()
        self._server.setblocking(False)
        self._secret = secret
        self._selector.register(self._server, selectors.EVENT_READ)
        return int(self._server.getsockname()[1])

    def connect(self, host: str, port: int, seconds: float) -> Peer:
        """A connection to ``host``.

        Raises:
            OSError: nobody answers there.
        """
        peer = Peer(socket.create_connection((host, port), timeout=seconds))
        self._selector.register(peer.connection, selectors.EVENT_READ, peer)
        return peer

    def wait(self, seconds: float) -> list[tuple[Peer, list[dict[str, Any]] | None]]:
        """What arrives within ``seconds``; None in place of messages for a connection that was closed."""
        arrived: list[tuple[Peer, list[dict[str, Any]] | None]] = []
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._accept()
                continue
            peer: Peer = key.data
            messages = peer.receive()
            if messages is not None and peer.rank < 0 and self._server is not None and not self._belongs(messages):
                messages = None
            if messages is None:
                self._selector.unregister(peer.connection)
                peer.connection.close()
            arrived.append((peer, messages))
        return arrived

    def _accept(self) -> None:
        if self._server is not None:
            with contextlib.suppress(OSError):  # it has gone again already
                connection, _ = self._server.accept()
                self._selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def _belongs(self, messages: list[dict[str, Any]]) -> bool:
        return not messages or hmac.compare_digest(str(messages[0].get("secret", "")), self._secret)

    def close(self) -> None:
        """Closes all of them."""
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()


def _open(host: str = "") -> socket.socket:
    """A port of ``host``; without one, of all addresses of this host, those of IPv6 among them where it has any."""
    if not host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # it knows IPv6, and none is set up
            return socket.create_server(("", 0), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server((host, 0), backlog=1024)


_OPEN: WeakSet[Wire] = WeakSet()


def _leave_to_the_parent() -> None:
    # A connection ends when the last process that has it lets go; loader workers outlive a killed trainer for seconds.
    for wire in list(_OPEN):
        wire.close()


os.register_at_fork(after_in_child=_leave_to_the_parent)
