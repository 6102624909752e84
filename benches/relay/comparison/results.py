"""How the results are told."""

import statistics

MEASURES = {
    "relay": [("accepted", "accepted/s"), ("delivered", "delivered/s"), ("syncs", "fsyncs a message"),
              ("milliseconds", "ms of processor time a message")],
    "far": [("delivered", "delivered/s")],
    "dead": [("healthy", "seconds until the healthy domain's mail is out"), ("memory", "MiB after it")],
}
TITLES = {"relay": "next hop at hand", "far": "next hop 20 ms away", "dead": "a silent and a dead host beside it"}


def line(sample):
    told = {name: round(value, 2) for name, value in sample.items() if isinstance(value, float)}
    if "memory" in sample:
        told["memory"] = f"{sample['memory'] / 2**20:.0f} MiB"
    what = sample.get("error") or told
    return f"{sample['round']} {sample['workload']:6} {sample['disk']:14} {sample['program']:22} {what}"


def table(told):
    programs = list(told["versions"])
    lines = [f"{told['machine']}; " + ", ".join(f"{name} {version}" for name, version in told["versions"].items()), ""]
    for disk, rates in told["disks"].items():
        lines.append(f"* disk {disk}: {rates['alone']:.0f} fsyncs/s of one writer, {rates['sixteen']:.0f} of sixteen")
    lines += ["", "| | disk | " + " | ".join(programs) + " | ratio |", "| --- | --- |" + " --- |" * (len(programs) + 1)]
    for workload, measures in MEASURES.items():
        for disk in told["disks"]:
            for measure, title in measures:
                rounds = [values(told, program, disk, workload, measure) for program in programs]
                if not all(rounds):
                    continue
                medians = [statistics.median(round_) for round_ in rounds]
                cells = [f"{show(median)} ({', '.join(map(show, round_))})" for median, round_ in zip(medians, rounds)]
                ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) == 2 and medians[1] else ""
                lines.append(f"| {TITLES[workload]}: {title} | {disk} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines) + "\n"


def values(told, program, disk, workload, measure):
    found = [sample[measure] for sample in told["samples"] if measure in sample
             and (sample["program"], sample["disk"], sample["workload"]) == (program, disk, workload)]
    return [value / 2**20 for value in found] if measure == "memory" else found


def show(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
