"""Logins against the relayer and its SQLite database, where each costs a hash: `logins`, and `flood`.

These are not limited by what SMTP costs, so they have a client of their own, and a table of their own.
"""

import base64
import collections
import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

from harness import machine, servers

WORKLOADS = ["logins", "flood"]
RUNTIMES = ["smol", "tokio", "threads"]
TITLES = {
    "logins": "60 clients, each with four wrong passwords and the right one, three times",
    "flood": "400 clients with wrong passwords, and 45 that know theirs",
}

USERS = 60
ROUNDS, WRONG = 3, 4
CLIENTS, GOOD = 400, 45
# What every new password is hashed with: Argon2id, in KiB.
HASH_KIB = 19 * 1024
PATIENCE = 120.0


class Relayer:
    """The relayer over a database of its own, on loopback."""

    def __init__(self, place, runtime):
        self.program, self.runtime = place.binaries / "examples/authenticated_relayer", runtime

    @contextlib.contextmanager
    def started(self, priority):
        with tempfile.TemporaryDirectory() as folder:
            for user in range(USERS):
                add = [self.program, "user", "add", f"user{user}", "--users", "mail.db"]
                subprocess.run(add, cwd=folder, check=True, capture_output=True, input=f"right{user}\n", text=True)
            command = [self.program, "--users", "mail.db", "--listen", "127.0.0.1:0", "--runtime", self.runtime,
                       "--hostname", "mx.example.org", "--allow-plaintext-auth"]
            with open(pathlib.Path(folder) / "log", "w") as log:
                process = machine.start_anywhere(command, priority, cwd=folder, stdout=subprocess.PIPE, stderr=log)
                try:
                    address = servers.address(process, log.name)
                    # What it prints besides is not to fill the pipe.
                    threading.Thread(target=lambda: collections.deque(process.stdout, 0), daemon=True).start()
                    host, port = address.rsplit(":", 1)
                    yield (host, int(port)), process.pid
                finally:
                    process.kill()
                    process.wait()


class Client:
    """A bare client with an address of its own."""

    def __init__(self, server, source):
        self.socket = socket.create_connection(server, PATIENCE, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.reply()
        self.command("EHLO client.example")

    def reply(self):
        while True:
            line = self.lines.readline()
            if not line:
                raise EOFError
            if line[3:4] != b"-":
                return line[:3].decode()

    def command(self, text):
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply()

    def log_in(self, user, password):
        return self.command("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())

    def close(self):
        self.lines.close()
        self.socket.close()


def measure(chosen, workloads, place):
    """A sample for each workload, runtime and round."""
    servers.call(["cargo", "build", "--release", "--package", "sansmtp-examples", "--example", "authenticated_relayer"],
                 cwd=place.repository)
    runtimes = [name for name in RUNTIMES if name in chosen.servers]
    samples = []
    for round_ in range(1, chosen.rounds + 1):
        for workload in workloads:
            for runtime in runtimes:
                with Relayer(place, runtime).started(chosen.nice) as (address, pid):
                    before = resident_mib(pid)
                    sample = {"workload": workload, "server": runtime, "round": round_, "resident_before_mib": before}
                    sample |= {"logins": logins, "flood": flood}[workload](address, chosen)
                    # Threads that wait have ended by then, and what they had is given back.
                    time.sleep(12)
                    sample["resident_mib"] = resident_mib(pid)
                samples.append(sample)
                print(line(sample), flush=True)
    return samples


def logins(address, _):
    """Each client has an address and a user of its own; wrong passwords come before the right one."""
    replies = collections.Counter()

    def client(number):
        user, told = number % USERS, []
        client = Client(address, f"127.9.0.{1 + number}")
        for attempt in range(WRONG):
            told.append(client.log_in(f"user{user}", f"wrong{attempt}"))
        told.append(client.log_in(f"user{user}", f"right{user}"))
        client.close()
        return told

    began = time.monotonic()
    for _ in range(ROUNDS):
        for told in at_once(client, range(60)):
            replies.update(told)
    per_second = sum(replies.values()) / (time.monotonic() - began)
    return {"replies": dict(replies), "per_second": per_second}


def flood(address, chosen):
    """Those who know their passwords log in one after the other, while all others guess without a pause: a third of them
    by names that there are not. Good clients have been there before, each from the same address, or have not."""
    end = threading.Event()
    guesses, lock = collections.Counter(), threading.Lock()

    def guesser(number):
        source, attempt = f"127.10.{number // 250}.{1 + number % 250}", 0
        while not end.is_set():
            try:
                client = Client(address, source)
                while not end.is_set():
                    attempt += 1
                    name = f"user{(number + attempt) % USERS}" if attempt % 3 else f"nobody{number}"
                    reply = client.log_in(name, f"guess{attempt}")
                    with lock:
                        guesses[reply] += 1
                    if reply == "421":
                        break
                client.close()
            except (OSError, EOFError):
                time.sleep(0.05)

    def good(source, user):
        try:
            client = Client(address, source)
            reply = client.log_in(f"user{user}", f"right{user}")
            client.close()
            return reply
        except (OSError, EOFError) as error:
            return type(error).__name__

    known = [(f"127.11.0.{1 + user}", user) for user in range(GOOD)]
    new = [(f"127.12.0.{1 + user}", user) for user in range(GOOD)]
    for source, user in known:
        assert good(source, user) == "235"
    threads = [threading.Thread(target=guesser, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    # Until the queue is full.
    while guesses["454"] < CLIENTS:
        time.sleep(0.1)
    told = {"known": collections.Counter(), "new": collections.Counter()}
    pause = max(chosen.seconds, 15.0) / GOOD

    def paced(number):
        time.sleep(number * pause)
        return good(*known[number]), good(*new[number])

    for first, second in at_once(paced, range(GOOD)):
        told["known"][first] += 1
        told["new"][second] += 1
    end.set()
    for thread in threads:
        thread.join(PATIENCE)
    return {"good": {kind: dict(replies) for kind, replies in told.items()}, "replies": dict(guesses)}


def at_once(work, numbers):
    """What comes of each, in threads of their own."""
    results = [None] * len(numbers)

    def run(place, number):
        results[place] = work(number)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(numbers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if None in results:
        raise servers.Failed("a client got no reply, or none that it could read")
    return results


def resident_mib(pid):
    for text in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith("VmRSS:"):
            return round(int(text.split()[1]) / 1024)
    raise servers.Failed("the server has ended")


def bound_mib():
    return round((os.cpu_count() or 1) * HASH_KIB / 1024 + 64)


def line(sample):
    told = sample.get("good") or sample["replies"]
    return (f"{sample['round']}  {sample['workload']:8} {sample['server']:8} {told}, "
            f"{sample['resident_before_mib']} MiB before, {sample['resident_mib']} MiB after")


def table(samples):
    """All rounds, as they are few and differ."""
    text = ""
    for workload in WORKLOADS:
        rows = [sample for sample in samples if sample["workload"] == workload]
        if not rows:
            continue
        text += f"\n{TITLES[workload]}; the server may have {bound_mib()} MiB resident in the end.\n\n"
        if workload == "logins":
            text += "| server | logins/s | 235 | 535 | 454 | MiB resident before | after |\n|---|---|---|---|---|---|---|\n"
            for row in rows:
                codes = " | ".join(str(row["replies"].get(code, 0)) for code in ["235", "535", "454"])
                text += (f"| {row['server']} | {row['per_second']:.0f} | {codes} | {row['resident_before_mib']} | "
                         f"{row['resident_mib']} |\n")
        else:
            text += ("| server | who has logged in before: 235 | who has not: 235 | guesses: 535 | 454 | MiB resident before | "
                     "after |\n|---|---|---|---|---|---|---|\n")
            for row in rows:
                good = " | ".join(f"{row['good'][kind].get('235', 0)} of {GOOD}" for kind in ["known", "new"])
                codes = " | ".join(str(row["replies"].get(code, 0)) for code in ["535", "454"])
                text += (f"| {row['server']} | {good} | {codes} | {row['resident_before_mib']} | {row['resident_mib']} |\n")
    return text
