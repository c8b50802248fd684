"""Start-up: median of ten fresh processes for `import tisseract` and `tisseract --help`.

Usage: python benchmarks/bench_startup.py [repeats]
Bars: import under 0.3 s, help under 0.5 s; the process itself is included.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "an empty interpreter": ["-c", "pass"],
    "import tisseract": ["-c", "import tisseract"],
    "tisseract --help": ["-c", "from tisseract.cli import main; main(['--help'])"],
    "tisseract ls --help": ["-c", "from tisseract.cli import main; main(['ls', '--help'])"],
    "the store alone": ["-c", "import tisseract.handle"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(f"python {platform.python_version()}, {platform.machine()}, median of {repeats}")
    for name, arguments in COMMANDS.items():
        seconds(arguments)  # the first run fills the file cache and writes bytecode
        times = [seconds(arguments) for _ in range(repeats)]
        print(f"{name:<24} {statistics.median(times):.3f} s   (worst {max(times):.3f} s)")


if __name__ == "__main__":
    main()
