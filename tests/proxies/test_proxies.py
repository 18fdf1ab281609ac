"""What the server promises has to hold behind each proxy."""

import pathlib
import re
import subprocess
import threading

import pytest
import requests
from clients import Events, Socket, assert_heard, curl, returning, skip_heartbeats, until
from conftest import each
from proxies import ALL, ForwardedNginx, Nginx
from server import PATIENCE, TOKEN
from websockets.exceptions import InvalidStatus


@each
def test_a_websocket_passes_and_a_post_reaches_it(kind, start, certificate):
    folder, trust = certificate
    proxy = start.proxy(kind, start.server())
    client = Socket(proxy, trust)
    assert client.message()["type"] == "hello"
    # As long as the server takes it, a proxy has to.
    post = {"region": "US", "videos": [{"id": number, "title": "title " * 10} for number in range(700)]}
    answer = requests.post(
        f"{proxy.url}/notify",
        json=post,
        headers={"Authorization": f"Bearer {TOKEN}"},
        verify=folder / "certificate.pem",
        timeout=PATIENCE,
    )
    assert answer.status_code == 200, answer.text
    assert skip_heartbeats(client)["id"] == answer.json()["id"]
    # What a client says passes too.
    client.run(client.connection.send('{"type":"ping"}'))
    assert skip_heartbeats(client) == {"type": "pong"}
    client.close()


@each
@pytest.mark.parametrize("version, status", [("--http1.1", "HTTP/1.1 200 OK"), ("--http2", "HTTP/2 200")])
def test_an_event_comes_while_the_stream_stays_open(kind, version, status, start, certificate):
    server = start.server(heartbeat="10m")
    proxy = start.proxy(kind, server)
    events = Events(proxy, certificate[0], version)
    assert events.status == status
    assert events.message()["type"] == "hello"
    # No heartbeat comes to push it: nothing but the event itself.
    for number in range(3):
        posted = server.post("US", f"a{number}")
        assert events.message() == posted
    assert events.process.poll() is None
    events.close()


@each
def test_the_script_comes_compressed_over_http_2_and_again_only_where_it_has_changed(kind, start, certificate):
    proxy = start.proxy(kind, start.server())

    def script(*headers):
        options = [option for header in headers for option in ("--header", header)]
        wanted = "%{http_version} %{http_code} %header{content-encoding} %header{etag}"
        command = [*curl(certificate[0]), "--http2", "--output", "/dev/null", "--write-out", wanted, *options]
        answer = subprocess.run([*command, f"{proxy.url}/notifier.js"], capture_output=True, check=True, text=True)
        return answer.stdout.split(" ")

    version, status, encoding, tag = script("Accept-Encoding: br")
    assert (version, status, encoding) == ("2", "200", "br")
    assert script("Accept-Encoding: br", f"If-None-Match: {tag}")[:2] == ["2", "304"]


@each
def test_plain_http_is_sent_to_https(kind, start):
    proxy = start.proxy(kind, start.server())
    answer = requests.get(f"http://localhost:{proxy.http}/notifier.js", allow_redirects=False, timeout=PATIENCE)
    assert answer.status_code in (301, 308)
    assert answer.headers["Location"].startswith("https://localhost")
    assert answer.headers["Location"].endswith("/notifier.js")


@pytest.mark.parametrize("kind", [*ALL, ForwardedNginx], ids=lambda kind: kind.__name__)
def test_the_address_that_counts_is_the_one_that_the_proxy_saw(kind, start, certificate):
    folder, trust = certificate
    proxy = start.proxy(kind, start.server(max_connections_per_ip="1", heartbeat="10s", **kind.settings))
    first = Socket(proxy, trust, source="127.0.0.2")
    assert first.message()["type"] == "hello"
    # Another address is another client, though the proxy's own is the same.
    second = Socket(proxy, trust, source="127.0.0.3")
    assert second.message()["type"] == "hello"
    # Nobody is another one by saying so.
    for headers in ({}, {"X-Forwarded-For": "198.51.100.7"}, {"Forwarded": "for=198.51.100.7"}):
        with pytest.raises(InvalidStatus) as refused:
            Socket(proxy, trust, source="127.0.0.2", headers=headers)
        assert refused.value.response.status_code == 429, headers
    said = ("--header", "X-Forwarded-For: 198.51.100.7")
    assert Events(proxy, folder, "--http2", "--interface", "127.0.0.3", *said).status == "HTTP/2 429"
    assert Events(proxy, folder, "--http2", "--interface", "127.0.0.4", *said).status == "HTTP/2 200"
    first.close()
    second.close()


@each
def test_an_address_of_ipv6_is_served_and_counts_too(kind, start, certificate):
    proxy = start.proxy(kind, start.server(max_connections_per_ip="1"), ipv6=True)
    ipv6 = ("--resolve", f"localhost:{proxy.https}:[::1]")
    # Over IPv4 at last: the address is another.
    clients = [Events(proxy, certificate[0], "--http2", *options) for options in (ipv6, ipv6, ())]
    assert [client.status for client in clients] == ["HTTP/2 200", "HTTP/2 429", "HTTP/2 200"]
    for client in clients:
        client.close()


def streams(proxy, certificate):
    """One client of each kind."""
    folder, trust = certificate
    return [Socket(proxy, trust), Events(proxy, folder, "--http1.1"), Events(proxy, folder, "--http2")]


@each
def test_heartbeats_keep_an_idle_stream_open(kind, start, certificate):
    # As they are, 25 s and 75 s, a twenty-fifth of both.
    server = start.server(heartbeat="1s")
    clients = streams(start.proxy(kind, server, idle="3s"), certificate)
    for client in clients:
        assert client.message()["type"] == "hello"
    # Longer than three times what the proxy bears.
    for _ in range(10):
        for client in clients:
            assert client.message()["type"] == "heartbeat"
    posted = server.post("US", "a1")
    for client in clients:
        assert skip_heartbeats(client) == posted
        client.close()


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.idle_timeouts], ids=lambda kind: kind.__name__)
def test_what_is_silent_for_longer_than_the_proxy_bears_is_ended(kind, start, certificate):
    proxy = start.proxy(kind, start.server(heartbeat="10m"), idle="1s")
    for client in streams(proxy, certificate):
        assert client.message()["type"] == "hello"
        assert client.message() is None
        client.close()


@each
def test_clients_are_spread_over_both_addresses_of_the_server(kind, start, certificate):
    server = start.server()
    proxy = start.proxy(kind, server)
    clients = [Socket(proxy, certificate[1]) for _ in range(10)]
    for client in clients:
        assert client.message()["type"] == "hello"
    for port in server.ports:
        # In hexadecimal, and 01 for a connection that stands.
        local = re.compile(rf":{port:04X} \w+:\w+ 01 ")
        assert len(local.findall(pathlib.Path("/proc/net/tcp").read_text())) >= 4
    posted = server.post("US", "a1")
    for client in clients:
        assert skip_heartbeats(client) == posted
        client.close()


@each
def test_a_restart_of_the_server_is_announced_and_over_at_once(kind, start, certificate):
    trust = certificate[1]
    server = start.server()
    proxy = start.proxy(kind, server)
    client = Socket(proxy, trust)
    position = client.message()["position"]
    server.terminate()
    assert skip_heartbeats(client)["type"] == "reconnect"
    assert client.message() is None
    assert client.code == 1012
    assert server.status() == 0

    # One asks meanwhile, and finds nobody.
    answers = []
    ask = {"verify": certificate[0] / "certificate.pem", "timeout": PATIENCE}
    meanwhile = threading.Thread(target=lambda: answers.append(requests.get(f"{proxy.url}/healthz", **ask).status_code))
    meanwhile.start()
    if kind is Nginx:
        meanwhile.join()
    server = start.server(ports=server.ports)
    meanwhile.join()
    # nginx has no waiting; the others sit a restart out.
    assert answers == [502 if kind is Nginx else 200]
    missed = server.post("US", "a1")
    client = Socket(proxy, trust, since=position)
    assert client.message()["recovered"] is True
    assert skip_heartbeats(client) == missed
    client.close()


@each
def test_a_reload_of_the_proxy_costs_nobody_anything(kind, start, certificate):
    server = start.server()
    proxy = start.proxy(kind, server)
    clients = returning(proxy, certificate, 10, 5)
    cut = clients if kind.cuts_events else clients[:10]
    posted = []

    def post():
        posted.append(server.post("US", f"a{len(posted)}")["id"])

    for _ in range(10):
        post()
    proxy.reload()

    def are_cut():
        post()
        return all(client.cuts for client in cut)

    until(are_cut, lambda: [client.cuts for client in clients], within=10 + PATIENCE)
    for _ in range(10):
        post()
    assert_heard(clients, posted)
