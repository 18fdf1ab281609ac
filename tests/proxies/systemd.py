"""A systemd that runs the units of deploy/ for real: the first process of namespaces of its own, where it finds no unit
of the machine's, and changes nothing of it. Only the network is shared."""

import subprocess
import time

from server import BINARY, PATIENCE, ROOT, TOKEN, free_port

UNITS = ["video-notifier.service", "video-notifier.socket"]

# What units are ordered against, unless they say otherwise.
TARGETS = ["basic", "multi-user", "network", "shutdown", "sockets", "sysinit"]

# What is hidden is what it would read or write; the binary goes where the unit has it.
START = """
exec 3< "$1"
for hidden in /run /var/lib /usr/local/bin; do mount -t tmpfs none $hidden || exit; done
cat <&3 > /usr/local/bin/video-notifier
exec 3<&-
chmod +x /usr/local/bin/video-notifier
mkdir -p /run/systemd/system
export container=test SYSTEMD_UNIT_PATH="$2"
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console
"""


class Systemd:
    """The manager, with the units started; it holds `ports`."""

    def __init__(self, folder):
        self.ports = (free_port(), free_port())
        variables = folder / "variables"
        variables.write_text(f"NOTIFIER_TOKEN={TOKEN}\nNOTIFIER_HEARTBEAT=500ms\n")
        units = folder / "units"
        units.mkdir()
        for target in TARGETS:
            (units / f"{target}.target").write_text("[Unit]\n")
        text = {name: (ROOT / "deploy" / name).read_text() for name in UNITS}
        for name, shipped, replacement in [
            ("video-notifier.service", "/etc/video-notifier.env", variables),
            ("video-notifier.socket", "127.0.0.1:8765", f"127.0.0.1:{self.ports[0]}"),
            ("video-notifier.socket", "127.0.0.1:8766", f"127.0.0.1:{self.ports[1]}"),
        ]:
            assert shipped in text[name]
            text[name] = text[name].replace(shipped, str(replacement))
        for name in UNITS:
            (units / name).write_text(text[name])
        # Ends with it: whatever it has started.
        namespaces = ["unshare", "--mount", "--pid", "--cgroup", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self.log = (folder / "systemd.log").open("w+")
        self.process = subprocess.Popen(
            [*namespaces, "sh", "-c", START, "sh", BINARY, units],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        deadline = time.monotonic() + PATIENCE
        while self.run("is-active", "multi-user.target").returncode:
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.systemctl("start", *UNITS)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def run(self, *command):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children) as pids:
            manager = pids.read().strip()
        enter = ["nsenter", "--target", manager, "--mount", "--pid"] if manager else ["false"]
        return subprocess.run([*enter, "systemctl", *command], capture_output=True, text=True, timeout=60)

    def systemctl(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, done.stderr + self.said()
        return done.stdout.strip()

    def stop(self):
        # Its groups of processes go with the units.
        self.run("stop", *UNITS)
        self.process.kill()
        self.process.wait(PATIENCE)
        self.log.close()
