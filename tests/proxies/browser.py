"""A real Chromium, driven by its own protocol (CDP), as far as it takes to see how a page talks through a proxy."""

import contextlib
import json
import subprocess
import time

from clients import until
from server import PATIENCE
from websockets.sync.client import connect

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors"]


class Chromium:
    """A browser with one page; `events` is what it has told of that."""

    def __init__(self, profile):
        command = ["chromium", *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.stack = contextlib.ExitStack()
        address = self.listens_at(profile / "DevToolsActivePort")
        self.socket = self.stack.enter_context(connect(address, proxy=None, max_size=None, ping_interval=None))
        self.events = []
        self.asked = 0
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def listens_at(self, file):
        """Where it takes commands: port and path, a line each, once it does."""
        deadline = time.monotonic() + PATIENCE
        while not file.exists() or len(told := file.read_text().split()) < 2:
            assert self.process.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.02)
        return f"ws://127.0.0.1:{told[0]}{told[1]}"

    def send(self, method, **parameters):
        self.asked += 1
        ask = {"id": self.asked, "method": method, "params": parameters}
        self.socket.send(json.dumps(ask | ({"sessionId": self.session} if self.session else {})))
        while (message := json.loads(self.socket.recv(PATIENCE))).get("id") != self.asked:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message}"
        return message["result"]

    def open(self, url, before):
        """Goes there, after a script that the page does not know of."""
        self.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.send("Page.navigate", url=url)

    def evaluate(self, expression):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression):
        """Waits until it is true in the page."""
        until(lambda: self.evaluate(expression), lambda: f"{expression}: {self.events}")

    def responses(self, event):
        """What was answered to the page's requests, of one kind of event."""
        return [told["params"] for told in self.events if told["method"] == f"Network.{event}"]

    def close(self):
        self.stack.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
