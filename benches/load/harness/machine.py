"""The machine that all this runs on."""

import os
import platform
import resource
import shutil


def on_core(core, command):
    """The command, on that core and no other: the server on one, its clients on another."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > core:
        return ["taskset", "-c", str(core), *command]
    return list(command)


def be_nice(value):
    """Takes this priority, for all that is started from here."""
    os.setpriority(os.PRIO_PROCESS, 0, value)
    try:
        # Linux weighs whole sessions against each other first, where it groups by them.
        with open("/proc/self/autogroup", "w") as group:
            group.write(str(value))
    except FileNotFoundError:
        pass


def raise_file_limit():
    """For thousands of connections, on either end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def describe():
    return f"{cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"


def cpu():
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
