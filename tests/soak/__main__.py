"""Hurts kernels for as long as you like: ``python tests/soak [--minutes N] [--seed S] [--only NAME,…]``.

Storm after storm (``storms``), round after round, most of them on one kernel that lives through them all; then what it
bore, in figures, and what was lost.  Exits with 1 when anything was.  The seed repeats what is asked of the kernels; when
it reaches them no seed can say.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from time import monotonic

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("MINIKERNEL_HISTORY", "memory")

from client import KernelProcess  # noqa: E402
from storms import STORMS  # noqa: E402
from target import Target  # noqa: E402

#: How often a storm does its thing in one turn; a full turn of all takes some minutes.
TURN = {
    "requests": 20_000, "vanish": 500, "welcome": 100, "interrupts": 1000, "flood": 200, "fuzz": 3000,
    "damage": 20, "forks": 50, "starts": 20, "belongings": 1000, "registers": 40,
}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/soak", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--minutes", type=float, default=5.0, help="no turn begins after that, but in the first round (default: 5)")
    add("--seed", type=int, default=random.randrange(1 << 32), help="of an earlier run (default: a new one)")
    add("--only", metavar="NAME,…", default=",".join(STORMS), help=f"of {', '.join(STORMS)}; NAME=COUNT: how often")
    options = parser.parse_args()
    options.turns = {}
    for text in options.only.split(","):
        name, _, count = text.partition("=")
        if name not in STORMS:
            parser.error(f"no storm {name}; there are {', '.join(STORMS)}")
        options.turns[name] = int(count) if count else TURN[name]
    return options


class Soak:
    """The kernel that lives through the storms, and the figures."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self._directory = directory
        self._chance = chance
        self.figures: Counter[str] = Counter()
        self.losses: list[str] = []
        #: Of the kernel, after each round: kB in memory now and at most, descriptors, threads.
        self.sizes: list[tuple[int, int, int, int]] = []
        self._start()

    def _start(self) -> None:
        self.kernel = KernelProcess(self._directory)

    def turn(self, name: str, count: int) -> None:
        """Let one storm pass; a kernel that it has harmed is replaced."""
        began = monotonic()
        target = Target(self.kernel, self._chance)
        try:
            seen = STORMS[name](target, count)
            assert target.client.execute("6 * 7").result == "42"
        except Exception as error:  # a storm's own: a loss, told at the end
            seen = Counter(losses=1)
            self.losses.append(f"{name}: {error}\n{traceback.format_exc()}\n{self.kernel.stderr()[-2000:]}")
            self.close()
            self.sizes.clear()
            self._start()
        else:
            target.client.close()
            self.kernel.clients.remove(target.client)
        self.figures += seen
        shown = ", ".join(f"{number} {what}" for what, number in seen.items())
        print(f"{name:>12}  {monotonic() - began:6.1f} s  {shown}", flush=True)

    def measure(self) -> None:
        """Note the size of the kernel; Linux only."""
        if sys.platform == "linux":
            with open(f"/proc/{self.kernel.pid}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            descriptors = len(os.listdir(f"/proc/{self.kernel.pid}/fd"))
            memory, most = (int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))
            self.sizes.append((memory, most, descriptors, int(fields["Threads"])))

    def close(self) -> None:
        try:
            self.kernel.close()
        except AssertionError as error:  # a bug of the kernel's, on its stderr
            self.losses.append(str(error))


def main() -> int:
    options = parse()
    print(f"seed {options.seed}", flush=True)
    until = monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), random.Random(options.seed))
        while True:
            for name, count in options.turns.items():
                soak.turn(name, count)
                if monotonic() > until and soak.sizes:
                    break
            soak.measure()
            if monotonic() > until:
                break
        soak.close()
    print(*(f"{number:>12,}  {what}" for what, number in sorted(soak.figures.items())), sep="\n")
    names = ("kB in memory", "kB at most", "descriptors", "threads")
    for what, numbers in zip(names, zip(*soak.sizes, strict=True), strict=False):
        print(f"{numbers[0]:>12,}  {what} after the first round, {numbers[-1]:,} after {len(numbers)}")
    print(f"{len(soak.losses):>12,}  losses", *soak.losses, sep="\n")
    return bool(soak.losses)


if __name__ == "__main__":
    sys.exit(main())
