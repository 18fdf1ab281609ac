"""Clients on the far side of a proxy, over TLS."""

import asyncio
import contextlib
import json
import queue
import subprocess
import threading
import time

from server import PATIENCE
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


class Socket:
    """A WebSocket, from an address of its own where one is given. It answers pings only while a message is waited for.

    With a loop of its own: the client of `websockets` for threads reads and writes TLS at the same time, which hangs.
    """

    def __init__(self, proxy, trust, since="", source=None, headers=None):
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        connecting = connect(
            f"wss://{proxy.address}/ws?since={since}",
            ssl=trust,
            proxy=None,
            ping_interval=None,
            additional_headers=headers,
            open_timeout=PATIENCE,
            local_addr=(source, 0) if source else None,
        )
        self.connection = self.run(self.stack.enter_async_context(connecting))

    def run(self, task, patience=PATIENCE):
        return self.loop.run_until_complete(asyncio.wait_for(task, patience))

    def message(self, patience=PATIENCE):
        """The next message; none when the connection has ended."""
        try:
            return json.loads(self.run(self.connection.recv(), patience))
        except ConnectionClosed as closed:
            self.code = closed.rcvd and closed.rcvd.code
            return None

    def close(self):
        self.run(self.stack.aclose())
        self.loop.close()


class Events:
    """A stream of server-sent events, by curl; `status` is the first line of the answer, such as `HTTP/2 200`."""

    def __init__(self, proxy, folder, *options, since=""):
        self.process = subprocess.Popen(
            [*curl(folder), "--no-buffer", "--include", *options, f"{proxy.url}/events?since={since}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.status = (self.lines.get(timeout=PATIENCE) or "no answer").strip()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode())
        self.lines.put(None)

    def message(self, patience=PATIENCE):
        """The next message; none when the stream has ended."""
        deadline = time.monotonic() + patience
        while (line := self.lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))
        return None

    def close(self):
        self.process.kill()
        self.process.wait()


def curl(folder):
    """A command that trusts the certificate in the folder, and says nothing but what it got."""
    return ["curl", "--silent", "--cacert", str(folder / "certificate.pem")]


def skip_heartbeats(client, patience=PATIENCE):
    """The next message that says something, or none at the end."""
    deadline = time.monotonic() + patience
    while (message := client.message(max(0, deadline - time.monotonic()))) and message["type"] == "heartbeat":
        pass
    return message


def until(is_true, why=lambda: None, within=PATIENCE):
    """Asks again until it is true; `why` tells what was seen instead."""
    deadline = time.monotonic() + within
    while not is_true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


class Returning(threading.Thread):
    """A client that comes back from its position whenever its connection ends, until it has heard of `last`."""

    def __init__(self, connect):
        super().__init__(daemon=True)
        self.connect = connect
        self.heard = []
        self.hellos = 0
        self.cuts = 0
        self.last = None
        self.listens = threading.Event()

    def run(self):
        position = ""
        while not self.has_ended():
            try:
                client = self.connect(position)
            except (OSError, InvalidHandshake):
                continue
            while not self.has_ended() and (message := client.message()):
                position = message.get("position") or message.get("id") or position
                self.hellos += message["type"] == "hello"
                self.listens.set()
                if message["type"] == "new_trending":
                    self.heard.append(message["id"])
            client.close()
            self.cuts += not self.has_ended()

    def has_ended(self):
        return self.last is not None and self.last in self.heard


def returning(proxy, certificate, sockets, streams):
    """So many of each kind, all of which listen."""
    folder, trust = certificate
    clients = [Returning(lambda since: Socket(proxy, trust, since)) for _ in range(sockets)]
    clients += [Returning(lambda since: Events(proxy, folder, "--http2", since=since)) for _ in range(streams)]
    return start_all(clients)


def start_all(clients):
    """Starts them; they listen by then."""
    for client in clients:
        client.start()
    for client in clients:
        assert client.listens.wait(PATIENCE)
    return clients


def assert_heard(clients, posted):
    """All of it, once and in order."""
    for client in clients:
        client.last = posted[-1]
    for client in clients:
        client.join(PATIENCE)
        assert client.heard == posted, (client.heard, posted)
