"""One server and one proxy for each test, both fresh; a certificate for all."""

import pytest
from proxies import ALL, self_signed
from server import Server, free_port
from systemd import Systemd


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The folder with the certificate, and a TLS context that trusts it."""
    folder = tmp_path_factory.mktemp("certificate")
    return folder, self_signed(folder)


@pytest.fixture
def start(tmp_path, certificate):
    """Starts servers and proxies; ends all of them."""
    started = []

    class Start:
        def server(self, ports=None, **settings):
            ports = ports or (free_port(), free_port())
            listen = ",".join(f"127.0.0.1:{port}" for port in ports)
            server = Server(tmp_path / "data", listen=listen, **settings)
            server.ports = ports
            started.append(server.process.kill)
            return server

        def systemd(self):
            systemd = Systemd(tmp_path)
            started.append(systemd.stop)
            return systemd

        def proxy(self, kind, server, **options):
            folder = tmp_path / kind.__name__
            folder.mkdir()
            proxy = kind(folder, certificate[0], server.ports, **options)
            started.append(proxy.stop)
            return proxy

    yield Start()
    for end in reversed(started):
        end()


each = pytest.mark.parametrize("kind", ALL, ids=[kind.__name__ for kind in ALL])
