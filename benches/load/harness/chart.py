"""The figures as bars: one panel for each workload, drawn as SVG without any font or script of its own."""

from html import escape

from harness import results, servers

PANEL_WIDTH, BAR_HEIGHT, GAP = 440, 14, 6
LABEL_WIDTH, VALUE_WIDTH, MARGIN, HEAD = 112, 62, 16, 30
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600; font-size: 13px }
.ours { fill: #0969da } .bare { fill: #8c959f } .peer { fill: #d4a72c }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.ours { fill: #4493f8 } .bare { fill: #6e7681 } .peer { fill: #bb8009 }
}
"""


def draw(told):
    """Bars of each panel are in proportion to its longest; more is better, but for memory."""
    workloads = results.present(told, results.FIGURES)
    names = results.present(told, servers.ALL)
    height = HEAD + len(names) * (BAR_HEIGHT + GAP) + MARGIN
    rows = (len(workloads) + 1) // 2
    width, whole = 2 * PANEL_WIDTH + MARGIN, rows * height + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" height="{whole}"'
        ' role="img" aria-labelledby="title description">',
        '<title id="title">SMTP servers under load</title>',
        f'<desc id="description">{escape(described(told, names, workloads))}</desc>',
        f"<style>{STYLE}</style>",
    ]
    for index, workload in enumerate(workloads):
        column, row = index % 2, index // 2
        parts.append(f'<g transform="translate({MARGIN + column * PANEL_WIDTH} {MARGIN + row * height})">')
        parts += panel(told, names, workload)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(told, names, workload):
    head = results.FIGURES[workload][0] + (" (less is better)" if workload.startswith("idle") else "")
    yield f'<text class="head" y="12">{escape(head)}</text>'
    values = {name: results.figure(told, name, workload) for name in names}
    longest = max((value for value in values.values() if value), default=1)
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN
    for index, name in enumerate(names):
        y = HEAD + index * (BAR_HEIGHT + GAP)
        yield f'<text x="{LABEL_WIDTH - 8}" y="{y + 11}" text-anchor="end">{escape(label(name))}</text>'
        length = max(1, round(room * (values[name] or 0) / longest))
        if values[name] is not None:
            yield f'<rect class="{kind(name)}" x="{LABEL_WIDTH}" y="{y}" width="{length}" height="{BAR_HEIGHT}" rx="2"/>'
        value_x = LABEL_WIDTH + (length + 6 if values[name] is not None else 0)
        yield f'<text x="{value_x}" y="{y + 11}">{results.number(values[name])}</text>'


def label(name):
    return servers.title(name).replace("`", "").replace("-embedded", "")


def kind(name):
    return "bare" if name == "bare" else "peer" if name in servers.PEERS else "ours"


def described(told, names, workloads):
    """The same for those who cannot see it."""
    rows = []
    for workload in workloads:
        values = (f"{label(name)} {results.number(results.figure(told, name, workload))}" for name in names)
        rows.append(results.FIGURES[workload][0] + ": " + ", ".join(values))
    return ". ".join(rows) + "."
