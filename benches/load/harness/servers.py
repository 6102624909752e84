"""The servers: how each is installed, started and spoken to."""

import contextlib
import json
import os
import pathlib
import re
import selectors
import shutil
import subprocess
import sys

from harness import machine

USER, PASSWORD = "tim", "tanstaaftanstaaf"
PATIENCE = 20.0


class Failed(Exception):
    """Something that could not be installed or started, and why."""


class Place:
    """Where things are built, and what all servers share."""

    def __init__(self, repository):
        self.repository = repository
        told = subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=repository)
        self.target = pathlib.Path(json.loads(told)["target_directory"])
        self.binaries = self.target / "release"
        self.peers = self.target / "load-peers"
        self.sources = repository / "benches/load/peers"
        self.certificate, self.key = self.peers / "cert.pem", self.peers / "key.pem"

    def prepare(self):
        self.peers.mkdir(parents=True, exist_ok=True)
        step("build the generator and the bare loop")
        call(["cargo", "build", "--release", "--package", "sansmtp-load"], cwd=self.repository)
        if not self.certificate.exists():
            step("make a certificate")
            call(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                  "-keyout", self.key, "-out", self.certificate, "-days", "365", "-subj", "/CN=localhost",
                  "-addext", "subjectAltName=DNS:localhost"])


class Server:
    """A server that is started with the certificate and its key, and prints `listening on ADDRESS`."""

    title = ""

    def __init__(self, name):
        self.name = name

    def install(self, place):
        pass

    def version(self):
        return ""

    def command(self, workload, connections, place):
        raise NotImplementedError

    def refuses(self, workload):
        return None

    def connections(self, workload):
        return {"idle": 5000, "idle-tls": 5000, "large": 4}.get(workload, 32)

    def generator_options(self, workload):
        return []

    @contextlib.contextmanager
    def started(self, workload, connections, place, priority):
        command = self.command(workload, connections, place)
        with open(place.peers / f"{self.name}.log", "w") as log:
            process = machine.start(0, command, priority, stdout=subprocess.PIPE, stderr=log)
        try:
            yield address(process, log.name), process.pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def address(process, log):
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(PATIENCE) else ""
    told = re.search(r"listening on (\S+)", line)
    if not told:
        raise Failed(f"did not start: see {log}")
    return told.group(1)


class Bare(Server):
    title = "bare loop"

    def command(self, workload, connections, place):
        return [place.binaries / "bare", "--tls-cert", place.certificate, "--tls-key", place.key]


class MioLoop(Server):
    title = "`mio_loop`"

    def install(self, place):
        build_examples(place)

    def command(self, workload, connections, place):
        return [place.binaries / "examples/mio_loop", "--listen", "127.0.0.1:0"]


class Sink(Server):
    def __init__(self, name):
        super().__init__(name)
        self.title = f"`sink` on {name}"

    def install(self, place):
        build_examples(place)

    def command(self, workload, connections, place):
        # Nobody reads a line for each message here.
        return ["env", "RUST_LOG=warn", place.binaries / "examples/sink", "--runtime", self.name, "--listen", "127.0.0.1:0",
                "--user", USER, "--password", PASSWORD, "--plaintext-auth",
                "--tls-cert", place.certificate, "--tls-key", place.key]


class Aiosmtpd(Server):
    title = "aiosmtpd"

    def install(self, place):
        self.packages, versions = place.peers / "aiosmtpd", place.sources / "aiosmtpd/requirements.txt"
        if is_installed(self.packages, versions):
            return
        call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade",
              "--root-user-action=ignore", "--target", self.packages, "--requirement", versions])
        shutil.copy(versions, self.packages)

    def version(self):
        return pinned("aiosmtpd/requirements.txt", r"aiosmtpd==(\S+)") + f" on Python {sys.version.split()[0]}"

    def command(self, workload, connections, place):
        return ["env", f"PYTHONPATH={self.packages}", sys.executable, place.sources / "aiosmtpd/server.py",
                place.certificate, place.key]


class SmtpServer(Server):
    title = "smtp-server"

    def install(self, place):
        need("npm", "nodejs npm")
        self.copy, source = place.peers / "smtp-server", place.sources / "smtp-server"
        versions = source / "package-lock.json"
        installed = is_installed(self.copy, versions) and (self.copy / "node_modules").exists()
        shutil.copytree(source, self.copy, dirs_exist_ok=True)
        if not installed:
            call(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=self.copy)

    def version(self):
        node = subprocess.check_output(["node", "--version"], text=True).strip().removeprefix("v")
        return pinned("smtp-server/package.json", r'"smtp-server": "([^"]+)"') + f" on Node.js {node}"

    def command(self, workload, connections, place):
        return ["node", self.copy / "server.js", place.certificate, place.key]

    def connections(self, workload):
        # It greets each client after 100 ms, and nothing tells it otherwise: so many that it has always something to do.
        return 512 if workload in {"auth", "starttls"} else super().connections(workload)


class Mailin(Server):
    title = "mailin-embedded"

    def install(self, place):
        self.built = place.peers / "mailin"
        call(["cargo", "build", "--release", "--locked", "--target-dir", self.built], cwd=place.sources / "mailin")

    def version(self):
        return pinned("mailin/Cargo.toml", r'mailin-embedded = "=([^"]+)"')

    def refuses(self, workload):
        return "refuses AUTH in the clear" if workload == "auth" else None

    def generator_options(self, workload):
        return [] if workload in {"starttls", "idle-tls"} else ["--no-auth"]

    def command(self, workload, connections, place):
        under_tls = workload in {"starttls", "idle-tls"}
        tls = [place.certificate, place.key] if under_tls else []
        # One for each connection, and some for those that are just ending.
        return [self.built / "release/sansmtp-load-peer", connections + 32, *tls]


class GoSmtp(Server):
    title = "go-smtp"

    def install(self, place):
        packages = "golang-go golang-github-emersion-go-smtp-dev golang-github-emersion-go-sasl-dev"
        need("go", packages)
        gocode = pathlib.Path("/usr/share/gocode")
        if not (gocode / "src/github.com/emersion/go-smtp").exists():
            apt(packages)
        self.built = place.peers / "go-smtp"
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(gocode)}
        call(["go", "build", "-o", self.built, "."], cwd=place.sources / "go-smtp", env=environment)

    def version(self):
        package = ["dpkg-query", "-W", "-f=${Version}", "golang-github-emersion-go-smtp-dev"]
        go = subprocess.check_output(["go", "env", "GOVERSION"], text=True).strip().removeprefix("go")
        return subprocess.check_output(package, text=True).split("-")[0] + f" on Go {go}"

    def command(self, workload, connections, place):
        return [self.built, place.certificate, place.key]


OURS = {"mio": MioLoop, "smol": Sink, "tokio": Sink, "threads": Sink}
PEERS = {"aiosmtpd": Aiosmtpd, "smtp-server": SmtpServer, "mailin": Mailin, "go-smtp": GoSmtp}
ALL = {"bare": Bare} | OURS | PEERS


def title(name):
    return ALL[name](name).title


def install(chosen, place):
    """Those that are ready, and for each that is not, why. Without our own, there is nothing to measure."""
    ready, skipped = [], {}
    for name in chosen:
        server = ALL[name](name)
        step(f"install {name}")
        try:
            server.install(place)
            ready.append(server)
        except (Failed, OSError) as error:
            if name not in PEERS:
                raise SystemExit(f"error: {name}: {error}") from error
            skipped[name] = str(error)
            print(f"skipped: {error}")
    return ready, skipped


def build_examples(place):
    call(["cargo", "build", "--release", "--package", "sansmtp-examples", "--example", "sink", "--example", "mio_loop"],
         cwd=place.repository)


def is_installed(folder, versions):
    """Whether the folder holds what this file lists, by the copy of it there."""
    copy = folder / versions.name
    return copy.exists() and copy.read_bytes() == versions.read_bytes()


def need(program, packages):
    if not shutil.which(program):
        apt(packages)


def apt(packages):
    """Installs Debian packages, where that is possible."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(f"needs the packages {packages}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "update", "-qq"])
    call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages.split()], env=quiet)


def pinned(file, pattern):
    told = re.search(pattern, (pathlib.Path(__file__).parents[1] / "peers" / file).read_text())
    return told.group(1) if told else ""


def call(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Failed(f"{pathlib.Path(str(command[0])).name}: " + "".join(last))


def step(what):
    print(f"== {what}", flush=True)
