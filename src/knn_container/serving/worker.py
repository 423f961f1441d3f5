"""gunicorn's worker with threads, in which small requests go a short way."""

import socket
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_LARGEST = 1 << 14  # bytes of a request that goes the short way
_MOST = 512  # such requests that wait at once
_KEPT: Future[bool] = Future()
_KEPT.set_result(True)
_LOST: Future[bool] = Future()
_LOST.set_result(False)


class ShortWayWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """Offers each request on a connection that is kept to the application's `short_way` first."""

    _under_way = 0  # counted by the thread that watches the connections

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Takes a request; gunicorn calls this in the thread that watches the connections."""
        if not self._begin(conn, client):
            super().on_client_socket_readable(conn, client)

    def _begin(self, conn: Any, client: socket.socket) -> bool:
        short_way = self.wsgi.short_way
        if short_way is None or not self.alive or conn.is_http2 or self._under_way >= _MOST:
            return False
        try:
            received = client.recv(_LARGEST, socket.MSG_PEEK)
        except OSError:
            return False
        if not short_way.begin(received, partial(self._send, conn)):
            return False
        client.recv(len(received))
        self._under_way += 1
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        return True

    def _send(self, conn: Any, response: bytes) -> None:
        """Sends without waiting, in the thread that has searched; what a slow client leaves, a thread of the pool."""
        try:
            sent = conn.sock.send(response)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.method_queue.defer(self._end, conn, _LOST)
            return
        if sent == len(response):
            self.method_queue.defer(self._end, conn, _KEPT)
        else:
            self.tpool.submit(self._send_rest, conn, response[sent:])

    def _send_rest(self, conn: Any, response: bytes) -> None:
        try:
            conn.sock.setblocking(True)
            conn.sock.sendall(response)
        except OSError:
            self.method_queue.defer(self._end, conn, _LOST)
        else:
            self.method_queue.defer(self._end, conn, _KEPT)

    def _end(self, conn: Any, kept: "Future[bool]") -> None:
        self._under_way -= 1
        self.finish_request(conn, kept)
