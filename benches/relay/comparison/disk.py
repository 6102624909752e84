"""The disk: as it is, or as slow as one is to be, and how often it was waited for."""

import os
import pathlib
import struct
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).with_name("sync.c")
FIELDS = struct.Struct("=QQQQ")


class Disk:
    """Where both programs keep their mail. `flushes` a second, or None for the disk as it is.

    A disk of a given speed is a file system in memory that sync.c makes slow: what others write does not disturb it."""

    def __init__(self, flushes, place, library):
        self.flushes, self.library = flushes, library
        self.title = f"{flushes} flushes/s" if flushes else "as it is"
        self.root = pathlib.Path("/dev/shm") if flushes else place
        self.shared = pathlib.Path("/dev/shm") / f"sansmtp-sync-{os.getpid()}-{flushes or 0}"
        self.reset()

    def reset(self):
        self.shared.write_bytes(FIELDS.pack(round(1e9 / self.flushes) if self.flushes else 0, 0, 0, 0))
        # Postfix's processes are another user's.
        self.shared.chmod(0o666)

    def calls(self):
        """How often fsync and its like were called since the last reset."""
        return FIELDS.unpack(self.shared.read_bytes())[1]

    def environment(self):
        return {"LD_PRELOAD": str(self.library), "SYNC_DISK": str(self.shared)}

    def directory(self):
        made = tempfile.TemporaryDirectory(prefix="sansmtp-relay-", dir=self.root, ignore_cleanup_errors=True)
        os.chmod(made.name, 0o755)
        return made

    def measure(self, threads):
        """New files that so many writers, one after the other each, have on the disk in a second."""
        with self.directory() as directory:
            told = subprocess.check_output(
                [sys.executable, "-c", WRITERS, directory, str(threads)], env=os.environ | self.environment(), text=True)
        self.reset()
        return float(told)

    def close(self):
        self.shared.unlink(missing_ok=True)


def compile_library(target):
    target.mkdir(parents=True, exist_ok=True)
    library = target / "sync.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


WRITERS = """
import os, sys, threading, time
directory, threads = sys.argv[1], int(sys.argv[2])
counts, end = [0] * threads, time.monotonic() + 2

def write(number):
    while time.monotonic() < end:
        path = f"{directory}/{number}-{counts[number]}"
        file = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * 2048)
        os.fsync(file)
        os.close(file)
        os.unlink(path)
        counts[number] += 1

writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
[writer.start() for writer in writers]
[writer.join() for writer in writers]
print(sum(counts) / 2)
"""
