"""deploy/compose.yaml as it stands, under a Docker daemon of this test.

`run` starts this in namespaces of its own, with both images in the folder IMAGES: the daemon's networks, rules and
containers are nobody else's, and end with it.
"""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest
import requests
from clients import Events, Returning, Socket, curl, skip_heartbeats, start_all, until
from proxies import self_signed
from server import PATIENCE, ROOT, TOKEN

IMAGES = pathlib.Path(os.environ["IMAGES"])

# The machine as the world sees it, and two who come from there; over IPv6 each from a network of its own.
HOST, CLIENT, OTHER = IPV4 = [f"198.51.100.{number}" for number in (1, 2, 3)]
IPV6 = [f"2001:db8:0:{number}::1" for number in (1, 2, 3)]

# The first check of health is after ten seconds.
START = 60

ROOT_IS_READ_ONLY = re.compile(r"^\d+ \d+ \S+ \S+ / ro\b", re.MULTILINE)


class Site:
    """Both services, started as an operator does."""

    address = HOST
    url = f"https://{HOST}"

    def __init__(self, folder):
        self.folder = folder
        self.trust = self_signed(folder, f"IP:{HOST},IP:{IPV6[0]}")
        for name in ("compose.yaml", "nginx.conf"):
            shutil.copy(ROOT / "deploy" / name, folder)
        (folder / ".env").write_text(f"NOTIFIER_TOKEN={TOKEN}\n")
        self.descriptors = {"notifier": 200_000, "nginx": 65_536}
        self.bow_to_the_limit()
        self.compose("up", "--no-build", "--detach")

    def bow_to_the_limit(self):
        """Where this machine may not have as many descriptors as the file asks for, it asks for fewer."""
        try:
            most = max(self.descriptors.values())
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except ValueError:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            self.descriptors = {name: min(number, most) for name, number in self.descriptors.items()}
            services = [f"  {name}: {{ulimits: {{nofile: {most}}}}}" for name, most in self.descriptors.items()]
            (self.folder / "compose.override.yaml").write_text("\n".join(["services:", *services]))

    def compose(self, *command):
        return output("docker-compose", *command, cwd=self.folder)

    def inspect(self, service, what):
        container = self.compose("ps", "--all", "--quiet", service)
        return output("docker", "inspect", "--format", f"{{{{.{what}}}}}", container)

    def process(self, service):
        return pathlib.Path("/proc", self.inspect(service, "State.Pid"))

    def post(self, number):
        """Posts until it is answered, as README's snippets do; the id."""
        deadline = time.monotonic() + START
        headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"post-{number}"}
        post = {"region": "US", "videos": [{"id": number, "title": "a title"}]}
        trust = self.folder / "certificate.pem"
        while True:
            assert time.monotonic() < deadline
            with contextlib.suppress(requests.RequestException):
                answer = requests.post(
                    f"{self.url}/notify", json=post, headers=headers, verify=trust, timeout=PATIENCE
                )
                if answer.status_code == 200:
                    return answer.json()["id"]


def output(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=START)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """A daemon with both images."""
    folder = tmp_path_factory.mktemp("docker")
    output("ip", "link", "set", "lo", "up")
    for address in IPV4 + IPV6:
        output("ip", "address", "add", address, "dev", "lo")
    os.environ["DOCKER_HOST"] = f"unix://{folder}/socket"
    command = ["dockerd", "--host", os.environ["DOCKER_HOST"], "--bridge", "none", "--pidfile", folder / "pid"]
    command += ["--data-root", folder / "data", "--exec-root", folder / "run"]
    with (folder / "log").open("w+") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while subprocess.run(["docker", "version"], stdout=log, stderr=log).returncode:
                assert daemon.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            output("docker", "load", "--input", IMAGES / "video-notifier.tar")
            start = 'CMD ["nginx", "-g", "daemon off; user nginx;"]'
            output("docker", "import", "--change", start, IMAGES / "nginx.tar", "nginx:stable")
            yield
        finally:
            daemon.terminate()
            daemon.wait(START)


@pytest.fixture(scope="module")
def site(docker, tmp_path_factory):
    """Both services, started once the file's own condition is met: the server is healthy."""
    site = Site(tmp_path_factory.mktemp("deploy"))
    yield site
    print(site.compose("logs", "--no-color"))
    site.compose("down", "--volumes")


def clients(site):
    """One over each transport, from an address of the world."""
    return [
        Returning(lambda since: Socket(site, site.trust, since, source=CLIENT)),
        Returning(lambda since: Events(site, site.folder, "--http2", "--interface", CLIENT, since=since)),
    ]


def test_a_post_through_nginx_is_heard_over_both_transports(site):
    assert site.inspect("notifier", "State.Health.Status") == "healthy"
    socket = Socket(site, site.trust, source=CLIENT)
    stream = Events(site, site.folder, "--http2", "--interface", CLIENT)
    for client in (socket, stream):
        assert client.message()["type"] == "hello"
    posted = site.post("first")
    for client in (socket, stream):
        assert skip_heartbeats(client)["id"] == posted
        client.close()


@pytest.mark.parametrize("host, client, other", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_the_address_that_counts_is_the_one_that_nginx_saw(host, client, other, site):
    def guess(address, *options):
        """The answer to a wrong token from there."""
        wanted = ["--output", "/dev/null", "--write-out", "%{http_code}", "--interface", address]
        wrong = ["--header", "Authorization: Bearer wrong", "--data", "{}"]
        url = f"https://[{host}]/notify" if ":" in host else f"https://{host}/notify"
        return output(*curl(site.folder), *wanted, *wrong, *options, url)

    assert [guess(client) for _ in range(11)] == 10 * ["401"] + ["429"]
    for said in ("X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9"):
        assert guess(client, "--header", said) == "429"
    # Another address is another client, though both come by way of nginx.
    assert guess(other) == "401"


@pytest.mark.parametrize("service, user, capabilities", [("notifier", 10001, []), ("nginx", 0, [0, 6, 7, 10])])
def test_a_service_has_what_the_file_grants_and_no_more(service, user, capabilities, site):
    process = site.process(service)
    status = dict(re.findall(r"^(\w+):\t(.*)$", (process / "status").read_text(), re.MULTILINE))
    assert status["Uid"].split() == 4 * [str(user)]
    # Which there can be at most: CHOWN, SETGID, SETUID and NET_BIND_SERVICE.
    assert int(status["CapBnd"], 16) == sum(1 << capability for capability in capabilities)
    assert status["NoNewPrivs"] == "1"
    assert ROOT_IS_READ_ONLY.search((process / "mountinfo").read_text())
    limit = re.search(r"^Max open files +(\d+)", (process / "limits").read_text(), re.MULTILINE)
    assert int(limit[1]) == site.descriptors[service]


def stop_and_start(site):
    site.compose("stop", "notifier")
    # 137 would be Docker's SIGKILL.
    assert site.inspect("notifier", "State.ExitCode") == "0"
    site.compose("start", "notifier")


def kill(site):
    os.kill(int(site.process("notifier").name), signal.SIGKILL)
    until(lambda: site.inspect("notifier", "RestartCount") == "1")


def replace(site):
    site.compose("up", "--no-build", "--detach", "--no-deps", "--force-recreate", "notifier")


@pytest.mark.parametrize("end", [stop_and_start, kill, replace])
def test_under_posts_nothing_is_missed_or_doubled_over(end, site):
    listening = start_all(clients(site))
    posted, enough = [], threading.Event()

    def post():
        while not enough.is_set():
            posted.append(site.post(f"{end.__name__}-{len(posted)}"))

    poster = threading.Thread(target=post, daemon=True)
    poster.start()
    end(site)

    def are_cut():
        assert poster.is_alive()
        return all(client.cuts for client in listening)

    until(are_cut, within=START)
    enough.set()
    poster.join(START)
    for client in listening:
        client.last = posted[-1]
    # Who has heard the last one already wakes up at the next.
    site.post(f"{end.__name__}-next")
    for client in listening:
        client.join(PATIENCE)
        assert client.heard[: len(posted)] == posted
