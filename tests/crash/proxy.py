"""A network between the studio and its agent server that can be cut: a TCP proxy on loopback."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

PIECE = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Proxy:
    """Forwards connections to a port. `cut` resets all of them; while not `loud` nothing passes, and nothing closes."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.loud = threading.Event()
        self.loud.set()
        self.opened = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._guard = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="proxy").start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        with self._guard:
            self._pairs.add(pair)
            self.opened += 1
        with contextlib.suppress(OSError, ValueError):
            self._pump(client, server)
        with self._guard:
            self._pairs.discard(pair)
        client.close()
        server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([client, server], [], [], 0.5)
            for source in readable:
                self.loud.wait()
                data = source.recv(PIECE)
                if not data:
                    return
                (server if source is client else client).sendall(data)

    def streams(self) -> int:
        """How many connections there are."""
        with self._guard:
            return len(self._pairs)

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        with self._guard:
            pairs = list(self._pairs)
        for pair in pairs:
            for side in pair:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    side.shutdown(socket.SHUT_RDWR)
        return len(pairs)

    def close(self) -> None:
        """Stop listening and cut what is left."""
        self._listener.close()
        self.loud.set()
        self.cut()
