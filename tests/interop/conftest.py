"""One server process and one fresh data folder for each test."""

import pytest
from server import Server


@pytest.fixture
def start(tmp_path):
    """Starts a server, again on the same data where a test asks twice; ends all of them."""
    servers = []

    def start(**settings):
        servers.append(Server(tmp_path / "data", **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def server(start):
    return start()
