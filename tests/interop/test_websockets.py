"""The Python client `websockets` against `/ws`: it knows RFC 6455 and nothing of this server."""

import json
import time

import pytest
from server import PATIENCE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def ws(server, since=None, regions=None, **options):
    query = "&".join(f"{name}={value}" for name, value in [("since", since), ("regions", regions)] if value)
    # Its own keepalive off: what keeps the connection is the answer to the server's pings.
    return connect(f"ws://127.0.0.1:{server.port}/ws?{query}", ping_interval=None, **options)


def message(client):
    return json.loads(client.recv(timeout=PATIENCE))


def skip_heartbeats(client):
    """The next message that says something; they come for ever, so the wait has an end of its own."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (received := message(client))["type"] != "heartbeat":
            return received
    pytest.fail("nothing but heartbeats came")


def close_code(client):
    """Reads to the end of the connection."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            skip_heartbeats(client)
    return closed.value.rcvd.code


def test_hello_comes_first_and_then_a_notification_to_the_letter(server):
    with ws(server) as client:
        hello = message(client)
        assert hello["type"] == "hello"
        assert hello["recovered"] is None
        assert hello["heartbeat_ms"] == 500
        posted = server.post("US", "a1", "a2")
        assert skip_heartbeats(client) == posted


def test_only_the_asked_regions_come(server):
    with ws(server, regions="GB,DE") as client:
        message(client)
        server.post("US", "a1")
        posted = server.post("DE", "a2")
        assert skip_heartbeats(client) == posted


def test_a_client_that_was_away_gets_what_it_missed_once(server):
    with ws(server) as client:
        message(client)
        server.post("US", "seen")
        position = skip_heartbeats(client)["id"]
    missed = [server.post(region, f"missed-{region}") for region in ("US", "GB", "DE")]
    with ws(server, since=position) as client:
        hello = message(client)
        assert (hello["type"], hello["recovered"], hello["position"]) == ("hello", True, position)
        assert [skip_heartbeats(client) for _ in missed] == missed
        # What comes next is what is posted next, once each: none of the above comes again.
        live = [server.post("US", f"live-{number}") for number in range(3)]
        assert [skip_heartbeats(client) for _ in live] == live


def test_a_position_survives_a_restart_of_the_server(start):
    server = start()
    with ws(server) as client:
        position = message(client)["position"]
    missed = server.post("US", "before-the-restart")
    server.terminate()
    assert server.status() == 0
    server = start()
    with ws(server, since=position) as client:
        assert message(client)["recovered"] is True
        assert skip_heartbeats(client) == missed


def test_a_position_of_another_history_is_told_as_lost(server):
    server.post("US", "old")
    with ws(server, since="otherone-7") as client:
        hello = message(client)
        assert (hello["type"], hello["recovered"]) == ("hello", False)
        posted = server.post("US", "new")
        assert skip_heartbeats(client) == posted


def test_answering_pings_keeps_a_silent_client_connected(server):
    with ws(server) as client:
        message(client)
        # The server drops a client that was silent for three heartbeats.
        assert [message(client)["type"] for _ in range(8)] == ["heartbeat"] * 8
        posted = server.post("US", "still-here")
        assert skip_heartbeats(client) == posted


def test_sigterm_tells_the_client_to_come_back_and_closes_with_1012(server):
    with ws(server) as client:
        message(client)
        server.terminate()
        reconnect = skip_heartbeats(client)
        assert reconnect["type"] == "reconnect"
        assert isinstance(reconnect["after_ms"], int)
        assert close_code(client) == 1012
    assert server.status() == 0


@pytest.mark.parametrize("sent, code", [(b"\x00binary", 1003), ("x" * 5000, 1009)], ids=["binary", "over 4 KiB"])
def test_what_no_client_may_send_closes_with_its_own_code(server, sent, code):
    with ws(server) as client:
        message(client)
        client.send(sent)
        assert close_code(client) == code


def test_an_origin_that_is_not_allowed_is_told_so_after_the_upgrade(start):
    server = start(allowed_origins="https://videos.example")
    with ws(server, origin="https://other.example") as client:
        assert close_code(client) == 4403
    with ws(server, origin="https://videos.example") as client:
        assert message(client)["type"] == "hello"


def test_a_ping_of_the_old_page_is_answered(server):
    with ws(server) as client:
        message(client)
        client.send('{"type":"ping"}')
        assert skip_heartbeats(client) == {"type": "pong"}
