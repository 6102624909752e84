"""What the programs send to: a next hop that costs nothing, one that is far away, one that is silent, and a name server."""

import contextlib
import re
import socket
import subprocess
import threading

from harness import machine


class Hop:
    """`bare` of benches/load: it throws mail away, and counts it."""

    def __init__(self, binaries, nice, host="127.0.0.1", port=0, round_trip=0):
        command = [binaries / "bare", "--listen", f"{host}:{port}", "--round-trip", round_trip]
        self.process = machine.start_anywhere(command, nice, stdout=subprocess.PIPE)
        self.port = int(re.search(r":(\d+)$", self.process.stdout.readline().strip()).group(1))
        self.connection = socket.create_connection((host, self.port)).makefile("rw", newline="\r\n")
        self.connection.readline()

    def count(self):
        """How many messages it has had."""
        self.connection.write("VRFY\r\n")
        self.connection.flush()
        return int(self.connection.readline().split()[-1])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def silent(host, port):
    """Takes connections and says nothing."""
    listener = socket.create_server((host, port), backlog=1000)
    kept = []

    def take():
        with contextlib.suppress(OSError):
            while True:
                kept.append(listener.accept()[0])

    threading.Thread(target=take, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in kept:
            connection.close()


@contextlib.contextmanager
def name_server(hosts):
    """dnsmasq with a mail exchanger for each domain."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
               "--bind-interfaces", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]
    for domain, address in hosts.items():
        command += [f"--mx-host={domain},mx.{domain},10", f"--host-record=mx.{domain},{address}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def free_port(hosts):
    """A port that is free on all of these addresses."""
    while True:
        with socket.create_server((hosts[0], 0)) as first:
            port = first.getsockname()[1]
            try:
                for host in hosts[1:]:
                    socket.create_server((host, port)).close()
            except OSError:
                continue
        return port
