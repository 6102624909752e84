"""What the samples say: medians over the rounds, ratios, and tables of them."""

from statistics import median

from harness import servers

MIB_PER_MESSAGE = 10

# What is told of each workload: its row's name, and how a sample gives the figure.
FIGURES = {
    "auth": ("AUTH PLAIN, sessions/s", lambda sample: sample["per_second"]),
    "starttls": ("STARTTLS and AUTH, sessions/s", lambda sample: sample["per_second"]),
    "submit": ("1 KiB submissions/s", lambda sample: sample["per_second"]),
    "pipelined": ("the same, pipelined", lambda sample: sample["per_second"]),
    "large": ("10 MiB messages, MiB/s", lambda sample: sample["per_second"] * MIB_PER_MESSAGE),
    "idle": ("octets per idle connection", lambda sample: sample["octets_per_connection"]),
    "idle-tls": ("octets per idle connection under TLS", lambda sample: sample["octets_per_connection"]),
}
COSTS = {
    "auth": "AUTH PLAIN session",
    "starttls": "STARTTLS and AUTH session",
    "submit": "1 KiB submission",
    "pipelined": "the same, pipelined",
    "large": "10 MiB message",
}


def samples(told, server, workload):
    return [s for s in told["samples"] if s["server"] == server and s["workload"] == workload and "error" not in s]


def figure(told, server, workload):
    """The median over the rounds, or nothing where a round has failed."""
    return middle(told, server, workload, FIGURES[workload][1])


def cost(told, server, workload):
    """The server's time for an operation, in microseconds."""
    return middle(told, server, workload, lambda sample: sample["server_us"])


def cost_ratio(told, server, workload):
    """The median of how many times the bare loop's it is in the same round: rounds differ more than neighbours in one."""
    bare = {sample["round"]: sample["server_us"] for sample in samples(told, "bare", workload)}
    ratios = [s["server_us"] / bare[s["round"]] for s in samples(told, server, workload) if bare.get(s["round"])]
    return median(ratios) if len(ratios) == told["rounds"] else None


def middle(told, server, workload, value):
    values = [value(sample) for sample in samples(told, server, workload)]
    return median(values) if len(values) == told["rounds"] else None


def present(told, of):
    """Those of the servers and the workloads of which there are samples, in order."""
    return [name for name in of if any(name in (s["server"], s["workload"]) for s in told["samples"])]


def tables(told):
    columns, workloads = present(told, servers.ALL), present(told, FIGURES)
    parts = [table("", columns, [row(told, columns, workload) for workload in workloads])]
    costly = [workload for workload in workloads if workload in COSTS]
    if costly:
        parts.append("Processor time of the server for each operation, in µs, and how many times that of the bare loop:")
        parts.append(table("", columns, [cost_row(told, columns, workload) for workload in costly]))
    peers = [name for name in columns if name in servers.PEERS]
    sinks = [name for name in columns if servers.ALL[name] is servers.Sink]
    rated = [workload for workload in workloads if peers and sinks]
    if rated:
        parts.append("`sink` in proportion to the best of the peers (of memory, less is better):")
        parts.append(table("", sinks, [peer_row(told, sinks, peers, workload) for workload in rated], ["best peer"]))
    return "\n\n".join([*parts, caption(told, columns)]) + "\n"


def table(corner, columns, rows, more=()):
    header = [corner, *map(servers.title, columns), *more]
    return "\n".join(map(markdown, [header, ["---", *["---:"] * (len(header) - 1)], *rows]))


def markdown(cells):
    return "| " + " | ".join(cells) + " |"


def row(told, columns, workload):
    return [FIGURES[workload][0], *(number(figure(told, server, workload)) for server in columns)]


def cost_row(told, columns, workload):
    def cell(server):
        ratio = cost_ratio(told, server, workload) if server != "bare" else None
        return number(cost(told, server, workload)) + (f" ({ratio:.2f})" if ratio else "")

    return [COSTS[workload], *map(cell, columns)]


def peer_row(told, sinks, peers, workload):
    values = {peer: figure(told, peer, workload) for peer in peers}
    values = {peer: value for peer, value in values.items() if value}
    if not values:
        return [FIGURES[workload][0], *["–"] * (len(sinks) + 1)]
    best = (min if workload.startswith("idle") else max)(values, key=values.get)

    def cell(sink):
        own = figure(told, sink, workload)
        return f"{own / values[best]:.2f}" if own else "–"

    return [FIGURES[workload][0], *map(cell, sinks), servers.title(best)]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def caption(told, columns):
    peers = [f"{servers.title(name)} {told['versions'][name]}" for name in columns if name in servers.PEERS]
    lines = [
        f"Medians of {told['rounds']} interleaved rounds of {told['seconds']:g} s; each server on one core, its clients"
        f" on another, over loopback. {told['machine']}."
    ]
    if peers:
        lines.append(", ".join(peers) + ".")
    failed = {(s["server"], s["workload"]): s["error"] for s in told["samples"] if "error" in s}
    lines += [f"{servers.title(server)}, {workload}: {why}." for (server, workload), why in failed.items()]
    lines += [f"{servers.title(server)} is left out: {why}." for server, why in told["skipped"].items()]
    return " ".join(lines)


def line(sample):
    """One sample, for whoever watches."""
    name = f"round {sample['round']}  {sample['workload']:10} {sample['server']:12}"
    if "error" in sample:
        return f"{name} error: {sample['error']}"
    value = f"{name} {FIGURES[sample['workload']][1](sample):10,.0f}"
    if "server_us" not in sample:
        return value
    busy = ", ".join(f"{who} {sample[key]:.2f}" for who, key in
                     [("server", "server_busy"), ("clients", "client_busy"), ("others", "others")])
    return f"{value}  {sample['server_us']:10,.1f} µs  busy: {busy}"
