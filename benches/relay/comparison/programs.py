"""The two programs: how each is set up, started, and looked at. Both write their log to a file."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

from harness import machine

USER, PASSWORD = "tim", "tanstaaftanstaaf"
PATIENCE = 30.0
# Sessions at once with a destination: Postfix's default.
SESSIONS = 20


class Route:
    """Everything to one next hop, or by domain: then hosts by domain, all with one port, and a name server."""

    def __init__(self, port, hosts=None, name_server=None):
        self.port, self.hosts, self.name_server = port, hosts, name_server


class Ours:
    name = "authenticated_relayer"

    def __init__(self, binaries, options=()):
        self.program, self.options = binaries / "examples/authenticated_relayer", options

    def version(self):
        return subprocess.check_output([self.program, "--version"], text=True).split()[-1]

    def start(self, directory, disk, route, nice):
        directory = pathlib.Path(directory)
        subprocess.run([self.program, "user", "add", USER], input=PASSWORD + "\n", cwd=directory, check=True, text=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command = [self.program, "--listen", "127.0.0.1:0", "--allow-plaintext-auth", "--spool", directory / "spool",
                   "--max-connections-per-destination", SESSIONS, *self.options]
        if route.hosts:
            command += ["--mx", "--mx-allow-local", "--mx-port", route.port, "--resolver", f"127.0.0.1:{route.name_server}"]
        else:
            command += ["--relay", f"smtp://127.0.0.1:{route.port}"]
        with open(directory / "log", "w") as log:
            self.process = machine.start_anywhere(command, nice, cwd=directory, stdout=subprocess.PIPE, stderr=log,
                                                  env=os.environ | disk.environment())
        for line in self.process.stdout:
            told = re.search(r"listening on (\S+)", line)
            if told:
                return told.group(1)
        raise RuntimeError((directory / "log").read_text())

    def pid(self):
        return self.process.pid

    def processor_seconds(self):
        return machine.process_seconds(self.process.pid)

    def memory(self):
        """Octets of resident memory."""
        return resident(self.process.pid)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Postfix:
    name = "Postfix"

    def __init__(self, *_):
        if not shutil.which("postconf") or not shutil.which("dovecot"):
            raise SystemExit("error: needs Debian's packages postfix and dovecot-core")
        if os.geteuid() != 0:
            raise SystemExit("error: Postfix starts as root only")

    def version(self):
        return subprocess.check_output(["postconf", "-d", "-h", "mail_version"], text=True).strip()

    def start(self, directory, disk, route, nice):
        directory = pathlib.Path(directory)
        self.dovecot = start_dovecot(directory)
        port = free_port()
        queue, data, config = directory / "queue", directory / "data", directory / "config"
        for part in (queue, data, config):
            part.mkdir()
        shutil.chown(data, "postfix")
        parameters = {
            "compatibility_level": "3.6",
            "queue_directory": queue, "data_directory": data, "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin", "mail_owner": "postfix", "setgid_group": "postdrop",
            "maillog_file": directory / "log", "maillog_file_prefixes": directory,
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "myhostname": "postfix.test", "mydestination": "",
            "alias_maps": "", "local_recipient_maps": "", "smtp_dns_support_level": "disabled", "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no", "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": directory / "dovecot/run/auth-client", "smtpd_tls_auth_only": "no",
            "mynetworks": "", "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_recipient_restrictions": "", "smtpd_client_connection_rate_limit": "0",
            "smtpd_client_connection_count_limit": "0",
            "default_destination_concurrency_limit": SESSIONS,
            "import_environment": "MAIL_CONFIG LANG=C " + " ".join(f"{k}={v}" for k, v in disk.environment().items()),
        }
        if route.hosts:
            entries = (f"{{ {domain} = smtp:[{host}]:{route.port} }}" for domain, host in route.hosts.items())
            parameters["transport_maps"] = f"inline:{{ {', '.join(entries)} }}"
            # To addresses of loopback as to others.
            parameters["smtp_bind_address"] = "127.0.0.1"
        else:
            parameters["relayhost"] = f"[127.0.0.1]:{route.port}"
        (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in parameters.items()))
        (config / "master.cf").write_text(MASTER.format(port=port))
        # With a session of its own, as the other has: Linux weighs whole sessions against each other first.
        self.process = machine.start_anywhere(["postfix", "-c", config, "start-fg"], nice, cwd=directory,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port, directory / "log")
        return f"127.0.0.1:{port}"

    def pid(self):
        return self.process.pid

    def processor_seconds(self):
        """Of those of its processes that there are: none ends within a measurement."""
        return sum(machine.process_seconds(pid) for pid in [self.process.pid, *descendants(self.process.pid)])

    def memory(self):
        """Octets of memory of all its processes, what they share divided among them."""
        return sum(proportional(pid) for pid in [self.process.pid, *descendants(self.process.pid)])

    def stop(self):
        for process in (self.process, self.dovecot):
            for pid in [*descendants(process.pid), process.pid]:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            process.wait()


def start_dovecot(directory):
    at = directory / "dovecot"
    at.mkdir()
    (at / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    (at / "dovecot.conf").write_text(DOVECOT.format(at=at))
    process = subprocess.Popen(["dovecot", "-F", "-c", at / "dovecot.conf"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + PATIENCE
    while not (at / "run/auth-client").exists():
        if time.monotonic() > end:
            raise RuntimeError("Dovecot does not start")
        time.sleep(0.05)
    return process


def wait_for(port, log):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                if connection.recv(4) == b"220 ":
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("Postfix does not start: " + (log.read_text() if log.exists() else ""))
        time.sleep(0.05)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def descendants(pid):
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def resident(pid):
    return field(f"/proc/{pid}/status", "VmRSS")


def proportional(pid):
    return field(f"/proc/{pid}/smaps_rollup", "Pss")


def field(path, name):
    try:
        with open(path) as lines:
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)
    except OSError:
        return 0


MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

DOVECOT = """\
base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/log
protocols =
ssl = no
auth_mechanisms = plain
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = {at}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service stats {{
  chroot =
}}
"""
