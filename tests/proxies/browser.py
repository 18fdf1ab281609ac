"""A real Chromium, driven by its own protocol (CDP), as far as it takes to see how a page talks through a proxy."""

import json
import re
import subprocess
import time

from server import PATIENCE
from websockets.sync.client import connect

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors"]


class Chromium:
    """A browser with one page; `events` is what it has told of that."""

    def __init__(self, profile):
        command = ["chromium", *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        address = next(filter(None, (re.search(r"listening on (ws:\S+)", line) for line in self.process.stderr)))[1]
        self.socket = connect(address, proxy=None, max_size=None, ping_interval=None, open_timeout=PATIENCE)
        self.events = []
        self.asked = 0
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

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
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression}: {self.events}"
            time.sleep(0.02)

    def responses(self, event):
        """What was answered to the page's requests, of one kind of event."""
        return [told["params"] for told in self.events if told["method"] == f"Network.{event}"]

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
