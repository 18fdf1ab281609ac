"""The proxies, each a process with its configuration from deploy/."""

import os
import re
import signal
import socket
import ssl
import subprocess
import time

from server import PATIENCE, ROOT, free_port


class Proxy:
    """A proxy that runs, before a server at two ports. `address` is what stands after `https://`.

    `idle` shortens how long it bears silence. With `ipv6` it listens there too, which not every machine has.
    """

    def __init__(self, folder, certificate, upstream, idle="75s", ipv6=False):
        self.folder = folder
        self.ipv6 = ipv6
        self.https, self.http = free_port(), free_port()
        self.address = f"localhost:{self.https}"
        self.url = f"https://{self.address}"
        self.config = folder / self.shipped
        text = (ROOT / "deploy" / self.shipped).read_text()
        for pattern, replacement in self.replaced(certificate, upstream):
            text, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            # What is not there any more would be tested no longer.
            assert found, f"{self.shipped} has no {pattern}"
        assert text.count("75s") == self.idle_timeouts
        text = text.replace("75s", idle)
        self.config.write_text(text)
        self.log = (folder / "proxy.log").open("w+")
        environment = os.environ | self.variables()
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment
        )
        self.until_it_listens()

    def variables(self):
        return {}

    def until_it_listens(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.https)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    raise AssertionError(f"the proxy does not listen:\n{self.log.read()}") from None
                time.sleep(0.02)

    # Ends it at once, streams or not.
    end = signal.SIGTERM
    # How many of its settings end what is silent; without one it bears any silence.
    idle_timeouts = 0
    # What the server has to be told.
    settings = {}
    # Whether a reload cuts event streams, too, and not WebSockets alone.
    cuts_events = True

    def stop(self):
        self.process.send_signal(self.end)
        self.process.wait(timeout=PATIENCE)
        self.log.close()


class Nginx(Proxy):
    shipped = "nginx.conf"
    idle_timeouts = 2

    def replaced(self, certificate, upstream):
        return [
            (r"notifier:8765", f"127.0.0.1:{upstream[0]}"),
            (r"notifier:8766", f"127.0.0.1:{upstream[1]}"),
            (r"listen 80;", f"listen 127.0.0.1:{self.http};"),
            (r"listen 443 ", f"listen 127.0.0.1:{self.https} "),
            (r"listen \[::\]:80;", f"listen [::1]:{self.http};" if self.ipv6 else ""),
            (r"listen \[::\]:443 .*;", f"listen [::1]:{self.https} ssl http2;" if self.ipv6 else ""),
            (r"/etc/nginx/certificate.pem", str(certificate / "certificate.pem")),
            (r"/etc/nginx/key.pem", str(certificate / "key.pem")),
        ]

    def command(self):
        pid = self.folder / "nginx.pid"
        directives = f"daemon off; pid {pid}; error_log stderr;"
        return ["nginx", "-p", str(self.folder), "-c", str(self.config), "-g", directives]

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


class ForwardedNginx(Nginx):
    """As one that writes `Forwarded` alone, and passes on what a client says in the other header."""

    settings = {"forwarded_header": "forwarded"}

    def replaced(self, certificate, upstream):
        header = (r"X-Forwarded-For \$remote_addr", 'Forwarded "for=$remote_addr"')
        return [*super().replaced(certificate, upstream), header]


class Caddy(Proxy):
    shipped = "Caddyfile"
    end = signal.SIGKILL
    cuts_events = False

    def replaced(self, certificate, upstream):
        self.control = f"unix/{self.folder}/control"
        files = f"{certificate / 'certificate.pem'} {certificate / 'key.pem'}"
        return [
            (r"127.0.0.1:8765 127.0.0.1:8766", f"127.0.0.1:{upstream[0]} 127.0.0.1:{upstream[1]}"),
            (r"^{$", f"{{\n\tadmin {self.control}\n\thttp_port {self.http}\n\thttps_port {self.https}"),
            # It can't be asked for by ACME here.
            (r"^notify.example.com {$", f"localhost {{\n\ttls {files}\n\tbind 127.0.0.1{' [::1]' * self.ipv6}"),
        ]

    def variables(self):
        # Its own state; it must not find another's.
        return {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}

    def command(self):
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(self.config)]

    def reload(self):
        # Forced: what has not changed would not be loaded.
        command = ["caddy", "reload", "--force", "--adapter", "caddyfile", "--config", str(self.config)]
        subprocess.run([*command, "--address", self.control], check=True, stdout=self.log, stderr=self.log)


class Haproxy(Proxy):
    shipped = "haproxy.cfg"
    idle_timeouts = 3

    def replaced(self, certificate, upstream):
        return [
            (r"127.0.0.1:8765", f"127.0.0.1:{upstream[0]}"),
            (r"127.0.0.1:8766", f"127.0.0.1:{upstream[1]}"),
            (r"bind :80,:::80 v6only$", f"bind 127.0.0.1:{self.http}" + f",::1:{self.http} v6only" * self.ipv6),
            (r"bind :443,:::443 v6only", f"bind 127.0.0.1:{self.https}" + f",::1:{self.https} v6only" * self.ipv6),
            (r"/etc/haproxy/notify.pem", str(certificate / "both.pem")),
        ]

    def command(self):
        return ["haproxy", "-W", "-f", str(self.config)]

    def reload(self):
        self.process.send_signal(signal.SIGUSR2)


ALL = [Nginx, Caddy, Haproxy]


def self_signed(folder, name="DNS:localhost"):
    """A certificate for a name; answers what trusts it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=video-notifier", "-addext", f"subjectAltName={name}"]
    subprocess.run([*request, *subject, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    (folder / "both.pem").write_text(certificate.read_text() + key.read_text())
    return ssl.create_default_context(cafile=certificate)
