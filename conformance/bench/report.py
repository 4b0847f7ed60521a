"""What bench.py has measured, as a table for the terminal, and as the table and plot of README.md."""
import os, platform, statistics, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
README = os.path.join(HERE, "../../README.md")
BEGIN, END = "<!-- made by `make bench-readme` -->\n", "<!-- to here -->\n"
# Of the goals: the largest ratio to the floor.
GOALS = {"run": 1.25, "run tiny": 1.40, "create": 1.30, "start": 1.35, "state": 1.35, "kill": 1.35, "delete": 1.35, "exec tiny": 1.60,
         "list of 100": 1.4, "8 at a time, each": 1.25}
PLOTTED = ["run", "run, seccomp", "create", "start", "exec", "state", "kill", "delete"]
COLOURS = {"rundlet": "#1b6ca8", "crun": "#8a9ba8", "runc": "#c8553d"}


def medians(times):
    return {case: {name: statistics.median(values) for name, values in by.items()} for case, by in times.items()}


def number(value):
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def show(names, times, counts):
    first = names[0]
    print(f"{'ms':34}" + "".join(f"{n:>10}" for n in names) + "".join(f"{first + '/' + n:>15}" for n in names[1:]) + f"{'goal':>7}{'n':>5}")
    for case, by in medians(times).items():
        cells = "".join(f"{by[n]:10.3f}" if n in by else f"{'-':>10}" for n in names)
        ratios = "".join(f"{by[first] / by[n]:15.2f}" if n in by and first in by else f"{'-':>15}" for n in names[1:])
        print(f"{case:34}{cells}{ratios}{GOALS.get(case, ''):>7}{max(map(len, times[case].values())):5}")
    for what, by in counts.items():
        print(f"{what:34}" + "".join(f"{number(by[n]):>10}" if n in by else f"{'-':>10}" for n in names))


def machine():
    system = next((line.split("=")[1].strip().strip('"') for line in open("/etc/os-release") if line.startswith("PRETTY_NAME")), "?")
    return f"{os.cpu_count()} CPUs, {system}, Linux {'.'.join(platform.release().split('.')[:2])}, cgroup v2 alone"


def versions(runtimes):
    for rt in runtimes:
        if not rt.floor:
            out = subprocess.run([rt.path, "--version"], capture_output=True, text=True, check=False).stdout.split()
            yield rt.name, f"{rt.name} {out[2] if len(out) > 2 else '?'}"


def write(names, times, counts, runtimes, args):
    shown, middle = dict(versions(runtimes)), medians(times)
    rows = ["| | " + " | ".join(shown.get(n, n) for n in names) + " | of the floor |", "|---" * (len(names) + 2) + "|"]
    for case, by in middle.items():
        ratio = f"{by[names[0]] / by['floor']:.2f}" if "floor" in by and names[0] in by else "-"
        rows.append(f"| {case}, ms | " + " | ".join(number(by[n]) if n in by else "-" for n in names) + f" | {ratio} |")
    for what, by in counts.items():
        rows.append(f"| {what} | " + " | ".join(number(by[n]) if n in by else "-" for n in names) + " | |")
    text = open(README).read()
    before, rest = text.split(BEGIN)
    rest = rest.split(END)[1]
    note = (f"\nMedians of {args.n} rounds in turn, {time.strftime('%Y-%m-%d')}, {machine()};\nread them as ratios. *floor* is a program that "
            "asks the kernel for the same container and does nothing else\n([conformance/bench/floor.c](conformance/bench/floor.c)).\n\n"
            "![milliseconds of each verb](conformance/bench/plot.svg)\n\n")
    open(README, "w").write(before + BEGIN + note + "\n".join(rows) + "\n\n" + END + rest)
    with open(os.path.join(HERE, "plot.svg"), "w") as f:
        f.write(plot(names, middle))


def plot(names, middle):
    """Bars by case, as multiples of the floor, which is the line at 1."""
    cases = [c for c in PLOTTED if "floor" in middle.get(c, {})]
    drawn = [n for n in names if n != "floor"]
    bar, gap, left, scale = 12, 14, 110, 26
    most = max(middle[c][n] / middle[c]["floor"] for c in cases for n in drawn if n in middle[c])
    width, height = int(left + most * scale + 90), int(len(cases) * (len(drawn) * bar + gap) + 50)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    y = 30
    for i, name in enumerate(drawn):
        out.append(f'<rect x="{left + i * 90}" y="8" width="10" height="10" fill="{COLOURS.get(name, "#666")}"/>'
                   f'<text x="{left + i * 90 + 14}" y="17">{name}</text>')
    for case in cases:
        out.append(f'<text x="{left - 8}" y="{y + len(drawn) * bar / 2 + 4}" text-anchor="end">{case}</text>')
        for name in drawn:
            if name in middle[case]:
                ratio = middle[case][name] / middle[case]["floor"]
                out.append(f'<rect x="{left}" y="{y}" width="{ratio * scale:.1f}" height="{bar - 2}" fill="{COLOURS.get(name, "#666")}"/>'
                           f'<text x="{left + ratio * scale + 4:.1f}" y="{y + 9}">{ratio:.1f} × ({number(middle[case][name])} ms)</text>')
            y += bar
        y += gap
    x = left + scale
    out.append(f'<line x1="{x}" y1="26" x2="{x}" y2="{y}" stroke="black" stroke-dasharray="3 2"/><text x="{x - 14}" y="{y + 12}">the floor</text></svg>')
    return "\n".join(out) + "\n"
