"""A page in a browser, over HTTP/2, behind each proxy."""

import pytest
from browser import Chromium
from conftest import each
from proxies import Haproxy

# A WebSocket that something on the way does not let through.
REFUSED = "window.WebSocket = class extends WebSocket { constructor() { super('wss://localhost:1/') } };"

RECORD = """
window.heard = [];
addEventListener("DOMContentLoaded", () =>
  VideoNotifier.instance.addEventListener("notification", ({ detail }) => heard.push(detail.id)));
"""


@pytest.fixture
def browser(tmp_path):
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


@each
@pytest.mark.parametrize("before", ["", REFUSED], ids=["websocket", "events"])
def test_a_page_that_comes_over_http_2_hears_what_is_posted(kind, before, start, browser):
    server = start.server()
    proxy = start.proxy(kind, server)
    browser.open(f"{proxy.url}/", RECORD + before)
    browser.until("globalThis.VideoNotifier?.instance?.state === 'open'")
    posted = [server.post("US", f"a{number}")["id"] for number in range(3)]
    browser.until("heard.length >= 3")
    assert browser.evaluate("heard") == posted

    answers = {(answer["type"], answer["response"]["protocol"]) for answer in browser.responses("responseReceived")}
    assert {protocol for _, protocol in answers} == {"h2"}, answers
    streams = [answer for answer in answers if answer[0] == "EventSource"]
    # 101 upgrades a connection of its own; 200 opens one more stream of the page's (RFC 8441), which HAProxy offers.
    handshakes = browser.responses("webSocketHandshakeResponseReceived")
    statuses = [handshake["response"]["status"] for handshake in handshakes]
    assert (len(streams), statuses) == ((1, []) if before else (0, [200 if kind is Haproxy else 101]))
