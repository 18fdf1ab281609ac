"""The units for systemd: what its own tools say of them, and how systemd itself runs them."""

import concurrent.futures
import socket
import subprocess
import threading
import time

import pytest
import requests
from clients import assert_heard, returning, until
from conftest import each
from server import BINARY, PATIENCE, ROOT, TOKEN
from systemd import UNITS


@pytest.fixture
def units(tmp_path):
    """The units with the binary of this test."""
    for name in UNITS:
        text = (ROOT / "deploy" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/video-notifier", str(BINARY)))
    return tmp_path


def analyze(units, *arguments):
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=units, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def test_systemd_finds_no_fault_in_the_units(units):
    verdict = analyze(units, "verify", "--man=no", *(f"./{name}" for name in UNITS))
    assert (verdict.returncode, verdict.stdout) == (0, "")


def test_the_service_is_as_confined_as_it_can_be(units):
    # Of 10.0; in tenths.
    verdict = analyze(units, "security", "--offline=true", "--no-pager", "--threshold=10", f"./{UNITS[0]}")
    assert verdict.returncode == 0, verdict.stdout


@each
def test_a_restart_behind_a_proxy_refuses_nobody_and_costs_nobody_anything(kind, start, certificate):
    folder, _ = certificate
    systemd = start.systemd()
    proxy = start.proxy(kind, systemd)
    clients = returning(proxy, certificate, 5, 3)
    enough = threading.Event()

    def post():
        """Each once: what is answered with 502 would be missed."""
        posted = []
        ask = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "verify": folder / "certificate.pem"}
        with requests.Session() as session:
            while not enough.is_set():
                post = {"region": "US", "videos": [{"id": len(posted), "title": "a title"}]}
                answer = session.post(f"{proxy.url}/notify", json=post, timeout=PATIENCE, **ask)
                assert answer.status_code == 200, answer.text
                posted.append(answer.json()["id"])
        return posted

    with concurrent.futures.ThreadPoolExecutor() as pool:
        poster = pool.submit(post)
        try:
            for restarts in range(1, 4):
                systemd.systemctl("restart", UNITS[0])
                for client in clients:
                    until(lambda: client.hellos > restarts)
        finally:
            enough.set()
        posted = poster.result()
    assert_heard(clients, posted)


def test_killed_again_and_again_it_is_started_each_time_with_its_history_and_refuses_nobody(start):
    systemd = start.systemd()
    url = f"http://127.0.0.1:{systemd.ports[0]}"
    post = {"region": "US", "videos": [{"id": 1, "title": "a title"}]}
    answer = requests.post(f"{url}/notify", json=post, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)
    enough = threading.Event()

    def knock():
        """All the time: the first connect that is refused is an error."""
        while not enough.wait(0.005):
            socket.create_connection(("127.0.0.1", systemd.ports[1]), PATIENCE).close()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        knocking = pool.submit(knock)
        try:
            # Unless it is told otherwise, systemd gives up at the sixth start within ten seconds.
            began = time.monotonic()
            for kills in range(1, 8):
                systemd.systemctl("kill", "--signal=KILL", UNITS[0])
                restarts = ("show", "--property=NRestarts", "--value", UNITS[0])
                until(lambda: systemd.systemctl(*restarts) == str(kills), lambda: systemd.log.read_text()[-2000:])
                kept = requests.get(f"{url}/notifications", timeout=PATIENCE).json()["notifications"]
                assert [notification["id"] for notification in kept] == [answer.json()["id"]]
                assert kills != 5 or time.monotonic() - began < 10
        finally:
            enough.set()
        knocking.result()
