"""A real server process for tests in Python, of this folder and of ../proxies."""

import os
import pathlib
import queue
import re
import socket
import subprocess
import threading

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("VIDEO_NOTIFIER_BIN", ROOT / "target/release/video-notifier")).resolve()
TOKEN = "interop-token"

# Far above what anything here takes: a hang is a failure, not a wait.
PATIENCE = 10


class Server:
    """A running server. `url` and `port` are known once it has said that it listens."""

    def __init__(self, data_dir, port=0, **settings):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
        environment |= {
            "NOTIFIER_LISTEN": f"127.0.0.1:{port}",
            "NOTIFIER_DATA_DIR": str(data_dir),
            "NOTIFIER_TOKEN": TOKEN,
            # Pings come often, so that a client that does not answer them is dropped within a test.
            "NOTIFIER_HEARTBEAT": "500ms",
        }
        environment |= {f"NOTIFIER_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [BINARY], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.log = []
        listening = queue.Queue()
        threading.Thread(target=self._read_log, args=[listening], daemon=True).start()
        self.port = listening.get(timeout=PATIENCE)
        assert self.port, "the server ended before it listened:\n" + "".join(self.log)
        self.url = f"http://127.0.0.1:{self.port}"

    def _read_log(self, listening):
        """Reads to the end, so that a full pipe never stops the server."""
        told = False
        for line in self.process.stdout:
            self.log.append(line.decode())
            address = re.search(r"127\.0\.0\.1:(\d+)", self.log[-1])
            if address and address[1] != "0" and not told:
                told = True
                listening.put(int(address[1]))
        if not told:
            listening.put(None)

    def post(self, region, *ids, **fields):
        """Publishes videos with a title that needs every byte of UTF-8, and returns the receipt."""
        videos = [{"id": id, "title": f"{id}: «ß» 動画 🎬 <b>&amp;", "url": f"/watch/{id}"} for id in ids]
        answer = requests.post(
            f"{self.url}/notify",
            json={"region": region, "videos": videos} | fields,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE,
        )
        assert answer.status_code == 200, answer.text
        receipt = answer.json()
        # What a client has to get, to the letter.
        self.expected = {
            "type": "new_trending",
            "id": receipt["id"],
            "region": region,
            "count": len(ids),
            "videos": videos[:5],
            "timestamp": receipt["timestamp"],
        }
        return self.expected

    def notifications(self):
        """What the history holds, oldest first."""
        return requests.get(f"{self.url}/notifications", timeout=PATIENCE).json()["notifications"][::-1]

    def terminate(self):
        self.process.terminate()

    def status(self):
        return self.process.wait(timeout=PATIENCE)


def free_port():
    """A port that nothing listens on: for what has to be known before the server starts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
