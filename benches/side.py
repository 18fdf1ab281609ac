"""One side of a comparison, the server or the floor, and the clients that drive it."""

import json
import os
import random
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ATTACK = TARGET / "benches/release/attack"

# Attackers know it too: a slow body without it would be refused before it is slow.
TOKEN = "test-token"

# Longer than the load waits for anything by itself.
PATIENCE_S = 120

# Until an attack has got going.
ATTACK_S = 0.5


class Broken(Exception):
    """A side did not start, or ended; nothing can be measured."""


def build():
    """Builds what is measured and what measures; answers the server's path.

    VIDEO_NOTIFIER_BIN names a server that is built already.
    """
    cargo = ["cargo", "build", "--release", "--locked", "--quiet"]
    subprocess.run(
        [*cargo, "--manifest-path", ROOT / "benches/load/Cargo.toml", "--target-dir", TARGET / "benches"], check=True
    )
    given = os.environ.get("VIDEO_NOTIFIER_BIN")
    if not given:
        subprocess.run(cargo, check=True, cwd=ROOT)
    return Path(given) if given else TARGET / "release/video-notifier"


def attacks():
    """The names of all attacks."""
    return subprocess.run([ATTACK], capture_output=True, text=True, check=True).stdout.split()


class Side:
    """A server or a floor that runs, with `load` connected to it. Use it in a `with`: it ends what it started."""

    def __init__(self, kind, server, cpus, heartbeat_s=None, history="memory", rest_s=1.0):
        self.kind = kind
        # How long it takes to come to rest after it was busy.
        self.rest_s = rest_s
        # What should not have happened, as `load` told it last.
        self.faults = []
        self._data = tempfile.TemporaryDirectory(prefix="video-notifier-bench-")
        self._log = open(Path(self._data.name) / "log", "w+b")
        self._port = _free_port()
        if kind == "floor":
            command = [TARGET / "benches/release/floor", str(self._port)]
            command += [str(heartbeat_s)] if heartbeat_s else []
        else:
            command = [server, "--listen", f"127.0.0.1:{self._port}", "--data-dir", f"{self._data.name}/data"]
            command += ["--history", history, "--token", TOKEN, "--max-connections-per-ip", "20000"]
            command += ["--heartbeat", f"{heartbeat_s}s"] if heartbeat_s else []
        # Neither outlives this process, whatever ends it; both are the command itself, so that its pid is known.
        under = ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", ",".join(map(str, cpus))]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
        self._process = subprocess.Popen(
            [*under, *command], env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._load = None
        try:
            self._wait_until_it_listens()
            address = f"127.0.0.1:{self._port}"
            load = [TARGET / "benches/release/load", address, str(self._process.pid), TOKEN]
            self._load = subprocess.Popen([*under, *load], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for process in filter(None, [self._load, self._process]):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()
        self._data.cleanup()

    def open(self, count, **more):
        """Opens clients; `count` must all come to be open."""
        answer = self._ask(do="open", count=count, **more)
        if answer["opened"] != count:
            self.faults.append(f"{count - answer['opened']} of {count} clients did not open")
        return answer

    def publish(self, messages, **more):
        """Publishes; all that is expected must arrive."""
        answer = self._ask(do="publish", messages=messages, **more)
        lost = answer["expected"] - answer["delivered"]
        if lost:
            self.faults.append(f"{lost} of {answer['expected']} deliveries are lost")
        return answer

    def close(self):
        return self._ask(do="close")

    def sample(self):
        """What it holds, once it has come to rest."""
        time.sleep(self.rest_s)
        return self._ask(do="sample")

    def warm_up(self, transport="websocket"):
        """Lets it touch what every run touches once, so that this is not taken for a cost of connections."""
        self.open(20, transport=transport)
        self.publish(2)
        self.close()

    @contextmanager
    def attacked(self, attack):
        """Under an attack, by a process that runs only where nobody else wants to; answers what it did at its end."""
        told = {}
        under = ["setpriv", "--pdeathsig", "TERM", "chrt", "--idle", "0"]
        command = [*under, ATTACK, f"127.0.0.1:{self._port}", attack]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                time.sleep(ATTACK_S)
                yield told
                told["connections"] = int(process.communicate()[0].split()[-1])
            finally:
                process.kill()

    def metrics(self):
        """The server's counters as `{name and labels: value}`."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/metrics")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=10) as response:
            lines = response.read().decode().splitlines()
        counters = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in counters}

    def _ask(self, **command):
        self._load.stdin.write(json.dumps(command).encode() + b"\n")
        self._load.stdin.flush()
        ready, _, _ = select.select([self._load.stdout], [], [], PATIENCE_S)
        line = self._load.stdout.readline() if ready else b""
        if not line:
            raise Broken(f"load did not answer {command}; the {self.kind} said: {self._said()}")
        answer = json.loads(line)
        told = {name: count for name, count in answer["faults"].items() if count}
        if told:
            self.faults = [fault for fault in self.faults if isinstance(fault, str)] + [told]
        return answer

    def _wait_until_it_listens(self):
        for _ in range(200):
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Broken(f"the {self.kind} does not listen; it said: {self._said()}")

    def _said(self):
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-1000:].decode(errors="replace")


def _free_port():
    """A port below those that outgoing connections use."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
