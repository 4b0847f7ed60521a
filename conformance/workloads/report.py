"""The table of README.md and the last line of a run."""

HEADS = {"serves": "serves", "stop": "`stop`", "start": "`start`", "kill": "`kill`", "start_again": "`start`", "restarted": "engine restarted",
         "crashed": "engine killed", "exec": "`exec`, `top`", "logs": "`logs`", "pause": "`pause`", "update": "`update`", "stop_after": "`stop`, `rm`"}
BEGIN, END = "<!-- written by run.py --write -->", "<!-- end -->"


def verdict(runs, name, operation):
    good = [run["runtime"].split()[0] for run in runs if run["results"].get(name, {}).get(operation) == "ok"]
    return "both" if len(good) == len(runs) == 2 else " ".join(good) or "none"


def table(runs, services, operations):
    lines = [f"Seen with {' and '.join(run['runtime'] for run in runs)} below docker {runs[0]['versions']['docker']}; *both*: it holds on both runtimes.", "",
             "| service | version | " + " | ".join(HEADS[o] for o in operations) + " |", "|---|---" + "|---" * len(operations) + "|"]
    for service in services:
        name = service.name()
        lines.append(f"| {service.title} | {runs[0]['versions'][name]} | " + " | ".join(verdict(runs, name, o) for o in operations) + " |")
    lines += ["", f"Nothing left behind by all of them: {verdict(runs, 'nothing left behind', 'all')}. "
              f"Fifty containers at the same time, and nothing left behind: {verdict(runs, 'fifty', 'all')}."]
    return "\n".join(lines)


def write(path, runs, services, operations):
    with open(path, encoding="utf-8") as f:
        head, rest = f.read().split(BEGIN)
    with open(path, "w", encoding="utf-8") as f:
        f.write(head + BEGIN + "\n" + table(runs, services, operations) + "\n" + END + rest.split(END)[1])


def count(runs, wanted):
    """Prints the last line -> the exit code."""
    passed = failed = missed = 0
    for run in runs:
        for name, operations in wanted.items():
            seen = [run["results"].get(name, {}).get(o) if run else None for o in operations]
            passed += seen.count("ok")
            # What a failure kept from being tried is no pass; one that was never reached at all is a failure.
            failed += len([s for s in seen if s not in ("ok", None)]) + (1 if seen[0] is None else 0)
            missed += seen.count(None) - (1 if seen[0] is None else 0)
    print(f"{passed} passed, {failed} failed, {missed} skipped", flush=True)
    return 1 if failed or missed or not all(run and run["whole"] for run in runs) else 0
