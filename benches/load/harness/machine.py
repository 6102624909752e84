"""The machine that all this runs on."""

import contextlib
import fcntl
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time


def start(core, command, priority, **options):
    """Starts the command on that core and no other: the server on one, its clients on another."""
    command = [str(part) for part in command]
    if shutil.which("taskset") and (os.cpu_count() or 1) > core:
        command = ["taskset", "-c", str(core), *command]
    # In a session of its own, because Linux weighs whole sessions against each other first.
    process = subprocess.Popen(command, start_new_session=True, text=True, **options)
    if priority is not None:
        be_nice(process.pid, priority)
    return process


def start_anywhere(command, priority, **options):
    """Starts the command on all cores: one that hashes is to have as many permits as the machine has cores."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, text=True, **options)
    if priority is not None:
        be_nice(process.pid, priority)
    return process


def be_nice(pid, value):
    os.setpriority(os.PRIO_PROCESS, pid, value)
    try:
        with open(f"/proc/{pid}/autogroup", "w") as group:
            group.write(str(value))
    except FileNotFoundError:
        pass


def raise_file_limit():
    """For thousands of connections, on either end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def alone():
    """One run at a time: a second one, of whatever work tree, waits for the first."""
    with open(os.path.join(tempfile.gettempdir(), "sansmtp-load.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("== wait for another run", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Others:
    """How busy the machine was with anything but the measurement: processors that they had, on average."""

    def __init__(self):
        self.at, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds()

    def processors(self, server=None):
        """Since it was made; `server` is a process that began since."""
        ours = own_seconds() - self.own + (process_seconds(server) if server else 0)
        return max(0.0, (busy_seconds() - self.busy - ours) / (time.monotonic() - self.at))


def wait_for_quiet(until):
    """Waits until nobody else computes, or until then at the latest."""
    while time.monotonic() < until:
        others = Others()
        time.sleep(0.5)
        if others.processors() < QUIET:
            return


def busy_seconds():
    """All that the processors have done for anybody."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, *rest = map(int, stat.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """What this process has had, and those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def process_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Processors that others may have without disturbing a measurement.
QUIET = 0.15


def describe():
    return f"{cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"


def cpu():
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
