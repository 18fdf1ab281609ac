"""A systemd that runs the units of deploy/ for real: the first process of namespaces of its own, where it finds no unit
of the machine's. Only the network is shared; what it leaves are empty control groups."""

import pathlib
import subprocess

from clients import until
from server import BINARY, PATIENCE, ROOT, TOKEN, free_port

UNITS = ["video-notifier.service", "video-notifier.socket"]

# What units are ordered against, unless they say otherwise.
TARGETS = ["basic", "multi-user", "network", "shutdown", "sockets", "sysinit"]

# What is hidden is what it would read or write, the kernel's settings are not its to change, and the binary goes where
# the unit has it.
START = """
set -e
exec 3< "$1"
for hidden in /run /var/lib /usr/local/bin; do mount -t tmpfs none $hidden; done
mount --bind /proc/sys /proc/sys
mount --options remount,bind,ro /proc/sys
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
        namespaces = ["unshare", "--mount", "--pid", "--cgroup", "--uts", "--fork", "--kill-child", "--mount-proc"]
        command = [*namespaces, "sh", "-c", START, "sh", BINARY, units]
        self.log = folder / "systemd.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.has_started, self.log.read_text)
        self.systemctl("start", *UNITS)

    def has_started(self):
        assert self.process.poll() is None, self.log.read_text()
        child = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()
        # Before that, the folders are the machine's, and so is whoever answers there.
        if not child or pathlib.Path(f"/proc/{child}/comm").read_text() != "systemd\n":
            return False
        self.enter = ["nsenter", "--target", child, "--mount", "--pid"]
        return self.run("is-active", "multi-user.target").returncode == 0

    def run(self, *command):
        return subprocess.run([*self.enter, "systemctl", *command], capture_output=True, text=True, timeout=60)

    def systemctl(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, done.stderr + self.log.read_text()
        return done.stdout.strip()

    def stop(self):
        self.run("stop", *UNITS)
        self.process.kill()
        self.process.wait(PATIENCE)
