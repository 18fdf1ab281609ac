"""The snippets that README gives to a cron job, run as they stand there."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
import requests
from server import PATIENCE, ROOT, TOKEN, free_port

SNIPPETS = pathlib.Path(__file__).parent / "snippets"
VIDEOS = [{"id": "a1", "title": "Ünïcode 動画", "url": "/watch/a1"}]


def curl(folder, region):
    body = folder / f"{region}.json"
    body.write_text(json.dumps({"region": region, "videos": VIDEOS}))
    return ["sh", str(SNIPPETS / "notify.sh"), str(body)]


def python(folder, region):
    call = f"from notify import notify; notify({region!r}, {VIDEOS!r})"
    return [sys.executable, "-B", "-c", call]


def run(snippet, folder, port, region="US", token=TOKEN):
    """Starts a snippet as cron would."""
    environment = os.environ | {
        "NOTIFIER_URL": f"http://127.0.0.1:{port}",
        "NOTIFIER_TOKEN": token,
        "PYTHONPATH": str(SNIPPETS),
    }
    return subprocess.Popen(
        snippet(folder, region), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    """The exit status and all that cron would mail."""
    out, err = process.communicate(timeout=90)
    return process.returncode, out + err


each = pytest.mark.parametrize("snippet", [curl, python], ids=["notify.sh", "notify.py"])


@pytest.mark.parametrize("name", sorted(path.name for path in SNIPPETS.iterdir() if path.is_file()))
def test_readme_shows_the_snippet_that_is_tested(name):
    text = (SNIPPETS / name).read_text()
    assert "```" + {"sh": "sh", "py": "python"}[name.rsplit(".")[-1]] + "\n" + text + "```" in (ROOT / "README.md").read_text()


@each
def test_it_publishes_and_prints_nothing(snippet, server, tmp_path):
    assert finish(run(snippet, tmp_path, server.port)) == (0, "")
    [published] = server.notifications()
    assert (published["region"], published["count"], published["videos"]) == ("US", 1, VIDEOS)


@each
def test_a_server_that_starts_late_is_waited_for(snippet, start, tmp_path):
    port = free_port()
    refused = Refusing(port)
    process = run(snippet, tmp_path, port)
    refused.wait_for_one()
    server = start(port=port)
    assert finish(process) == (0, "")
    assert [published["videos"] for published in server.notifications()] == [VIDEOS]


@each
def test_an_answer_that_is_lost_is_asked_for_again_and_published_once(snippet, server, tmp_path):
    proxy = Losing(server)
    assert finish(run(snippet, tmp_path, proxy.port)) == (0, "")
    first, second = proxy.keys
    assert first == second and first
    assert [receipt["deduplicated"] for receipt in proxy.receipts] == [False, True]
    assert len(server.notifications()) == 1


@each
def test_two_runs_with_the_same_list_are_two_notifications(snippet, server, tmp_path):
    for _ in range(2):
        assert finish(run(snippet, tmp_path, server.port)) == (0, "")
    assert len(server.notifications()) == 2


@each
def test_a_refusal_is_printed_and_does_not_fail_the_fetch(snippet, server, tmp_path):
    status, printed = finish(run(snippet, tmp_path, server.port, token="wrong"))
    assert status == 0
    assert "not announced" in printed and "401" in printed
    assert server.notifications() == []


def test_a_server_that_is_down_is_printed_and_does_not_fail_the_fetch(tmp_path):
    port = free_port()
    for process in [run(snippet, tmp_path, port) for snippet in (curl, python)]:
        status, printed = finish(process)
        assert status == 0
        assert "not announced" in printed


class Refusing:
    """Holds a port, cuts the first connection to it, and frees the port."""

    def __init__(self, port):
        import socket

        self.listener = socket.create_server(("127.0.0.1", port))

    def wait_for_one(self):
        self.listener.settimeout(PATIENCE)
        connection, _ = self.listener.accept()
        self.listener.close()
        connection.close()


class Losing(http.server.ThreadingHTTPServer):
    """Passes posts on to the server, but drops the connection instead of giving the first answer."""

    def __init__(self, server):
        self.keys, self.receipts = [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                proxy = self.server
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: self.headers[name] for name in ("Authorization", "Idempotency-Key")}
                answer = requests.post(server.url + self.path, data=body, headers=headers, timeout=PATIENCE)
                proxy.keys.append(headers["Idempotency-Key"])
                proxy.receipts.append(answer.json())
                self.close_connection = True
                if len(proxy.keys) > 1:
                    self.send_response(answer.status_code)
                    self.end_headers()
                    self.wfile.write(answer.content)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()
