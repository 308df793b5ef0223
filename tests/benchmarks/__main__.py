"""Measures kernels side by side: ``python tests/benchmarks [--quick] [KERNEL ...]``.

In each round of a metric every kernel has its turn, in another order each time, so that a machine that slows down
slows all of them; so has the floor, a bare kernel (``floor``).  A figure is the median of its rounds, a ratio the
median of the ratios within the rounds.  ``--list`` says what is measured (``metrics``).

The table goes to stdout, in Markdown; what misses its goal is bold.  ``--json`` keeps every single figure.  What
else runs on the machine is in all of them: a ratio bears it better than a time.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from frontend import AnswerError
from metrics import METRICS, Metric, Row
from subject import FLOOR, Kernel, Spec

INSTALL = {
    "distributions": Row("distributions that pip installs", "", most=6),
    "size": Row("… their size", "B", most=6_500_000),
}
Figures = list[float | None]
Samples = dict[str, dict[str, Figures]]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("kernels", nargs="*", metavar="KERNEL", default=["minikernel", "python3"],
        help="a kernelspec's name or directory, or LABEL=either (default: minikernel python3)")  # fmt: skip
    add("--quick", action="store_true", help="a tenth of the work, fewer rounds")
    add("--only", metavar="NAME,…", help="these metrics")
    add("--rounds", type=int, help="at most so many rounds (default: 7; --quick: 3)")
    add("--budget", type=float, help="seconds after which a metric has no further round (60; --quick: 1)")
    add("--reference", default="python3", help="the kernel that the others are compared to (default: python3)")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--install", action="append", default=[], metavar="NAME=REQUIREMENT",
        help="tell what pip installs for a kernel, in a fresh environment")  # fmt: skip
    add("--list", action="store_true", help="say what is measured, and end")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.budget = options.budget or (1.0 if options.quick else 60.0)
    options.only = options.only.split(",") if options.only is not None else list(METRICS)
    unknown = {*options.only} - {*METRICS, ""}
    if unknown:
        parser.error(f"no metric {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    return options


def main() -> None:
    sys.path.append(str(Path(__file__).parents[2]))  # minikernel, for its fork server
    options = parse()
    metrics = {name: METRICS[name] for name in options.only if name}
    if options.list:
        print(*(f"{name}\n    {metric.measure.__doc__}" for name, metric in metrics.items()), sep="\n")
        return
    specs = [Spec.find(name) for name in options.kernels]
    versions = {spec.name: greet(spec) for spec in (FLOOR, *specs)}
    began, rows, problems = perf_counter(), [], list[str]()
    gc.disable()
    for name, metric in metrics.items():
        print(f"{perf_counter() - began:5.0f} s  {name}", file=sys.stderr, flush=True)
        samples = measure(metric, specs, options, problems)
        rows += [summary(name, row, metric.rows[row], samples[row], options.reference) for row in metric.rows]
    if options.install:
        found = {name: installed(what) for name, _, what in (text.partition("=") for text in options.install)}
        for part, row in INSTALL.items():
            samples_of_one = {name: [figures[part]] for name, figures in found.items()}
            rows.append(summary("install", part, row, samples_of_one, options.reference))
    report = {"command": sys.argv, "machine": machine(), "kernels": versions, "rows": rows, "problems": problems,
              "rounds": options.rounds, "quick": options.quick, "seconds": perf_counter() - began}  # fmt: skip
    print(table(report, [spec.name for spec in specs], options.reference))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def greet(spec: Spec) -> str:
    """Start a kernel, so that nobody pays for files that are not in memory yet; return what it is."""
    with Kernel(spec) as kernel:
        info = kernel.ready().frontend.ask("kernel_info_request", {})
    return f"{info['implementation']} {info['implementation_version']}, Python {info['language_info']['version']}"


def measure(metric: Metric, specs: list[Spec], options: argparse.Namespace, problems: list[str]) -> Samples:
    """Measure all kernels, round by round; return, by row and kernel, a figure a round, None where there is none."""

    def size(full: int, quick: int | None = None) -> int:
        return full if not options.quick else max(1, full // 10) if quick is None else quick

    samples: Samples = {row: {} for row in metric.rows}
    failed: set[str] = set()
    with ExitStack() as stack:
        turns: dict[str, Any] = {} if isinstance(metric.floor, bool) else {"floor": metric.floor}
        for spec in (FLOOR, *specs) if metric.floor is True else specs:
            subject = spec if metric.starts else stack.enter_context(Kernel(spec)).ready()
            turns[spec.name] = lambda subject=subject: metric.measure(subject, size)
        began = perf_counter()
        for number in range(min(metric.rounds, options.rounds)):
            if number and perf_counter() - began > options.budget:
                break
            names = list(turns)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                figures: dict[str, float] = {}
                gc.collect()
                if name not in failed:
                    try:
                        figures = turns[name]()
                    except AnswerError as error:
                        failed.add(name)
                        problems.append(f"{name}, {metric.measure.__name__}: {error}")
                for row in metric.rows:
                    samples[row].setdefault(name, []).append(figures.get(row))
    return samples


def installed(requirement: str) -> dict[str, float]:
    """Return what pip installs: how many distributions, how many bytes, bytecode not counted."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
        pip = [sys.executable, "-m", "pip", "-qq", "--python", str(Path(directory, "bin", "python"))]
        subprocess.run([*pip, "install", "--no-compile", requirement], check=True)
        [packages] = Path(directory).glob("lib/python*/site-packages")
        sizes = [path.stat().st_size for path in packages.rglob("*") if path.is_file()]
        return {"distributions": len(list(packages.glob("*.dist-info"))), "size": sum(sizes)}


# -- the report --------------------------------------------------------------------------------------------


def summary(metric: str, name: str, row: Row, samples: dict[str, Figures], reference: str) -> dict[str, Any]:
    """Return the medians and ratios of one row."""
    kernels = {}
    for kernel, figures in samples.items():
        ratios = {f"× {other}": middle([one / two if one is not None and two else None
                                        for one, two in zip(figures, samples.get(other, ()), strict=False)])
                  for other in (reference, "floor")}  # fmt: skip
        kernels[kernel] = {"median": middle(figures), **ratios, "samples": figures}
    goals = {f"× {reference}": row.reference, "× floor": row.floor, "median": row.most}
    return {"metric": metric, "row": name, "title": row.title, "unit": row.unit, "goals": goals, "kernels": kernels}


def middle(figures: Figures) -> float | None:
    there = [figure for figure in figures if figure is not None]
    return median(there) if there else None


def table(report: dict[str, Any], kernels: list[str], reference: str) -> str:
    """Return the report in Markdown: the floor and the reference, then each other kernel beside them."""
    beside = ["floor", *(name for name in kernels if name == reference)]
    head, ratios = ["", *beside], [f"× {name}" for name in reversed(beside)]
    others = [name for name in kernels if name != reference]
    for name in others:
        head += [name, *ratios]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    for row in report["rows"]:
        line = [row["title"]]
        line += [say(row["kernels"].get(name, {}).get("median"), row["unit"]) for name in beside]
        for name in others:
            for column in ("median", *ratios):
                figure, goal = row["kernels"].get(name, {}).get(column), row["goals"][column]
                unit = row["unit"] if column == "median" else ""
                text = say(figure, unit)
                if goal is not None and figure is not None:
                    text = (f"**{text}**" if figure > goal else text) + f" (≤ {say(goal, unit)})"
                line.append(text)
        lines.append(line)
    rounds = f"{report['rounds']} rounds or fewer{', a tenth of the work' if report['quick'] else ''}"
    notes = [f"{report['machine']}; medians of {rounds}; {report['seconds']:.0f} s"]
    notes += [f"{name}: {version}" for name, version in report["kernels"].items()]
    text = ["| " + " | ".join(line) + " |" for line in lines] + ["", "; ".join(notes) + "."]
    return "\n".join(text + [f"FAILED  {problem}" for problem in report["problems"]])


def say(figure: float | None, unit: str) -> str:
    """Return a figure to three digits, with the unit that suits it."""
    if figure is None:
        return "–"
    steps = {"s": ((1, " s"), (1e-3, " ms"), (1e-6, " µs")), "B": ((1e6, " MB"), (1e3, " kB"))}.get(
        unit, ((1, ""),)
    )
    factor, name = next((step for step in steps if abs(figure) >= step[0]), steps[-1])
    number = figure / factor
    return f"{number:.0f}{name}" if abs(number) >= 100 else f"{number:.3g}{name}"


def machine() -> str:
    """Return what the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    system, load = os.uname(), " ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, {system.sysname} {system.release}, load {load}"


if __name__ == "__main__":
    main()
