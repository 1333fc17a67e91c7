"""A real llama.cpp server: one fine-tuned SmolLM2, audited through every tier, beside the audit of its weights.

`python benchmarks/llamacpp.py --server llama-server --run reports/smollm2` takes about half an hour on two cores. The
run is that of `canary-audit run configs/smollm2.toml`; its model is written as a GGUF file and served on this machine.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tuned_gguf import write_tuned_gguf

from canary_audit.models.smollm2 import packaged_gguf

TIERS = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")
_STARTED_WITHIN_S = 120


def main() -> None:
    """Serve, audit through every tier, print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="llama-server", help="the server's program")
    parser.add_argument(
        "--run", type=Path, default=Path("reports/smollm2"), help="a finished run of configs/smollm2.toml"
    )
    parser.add_argument("--max-calls", type=int, default=2_000, help="budget of each audit")
    options = parser.parse_args()
    rows = [_row("weights", json.loads((options.run / "result.json").read_text()), None)]
    with tempfile.TemporaryDirectory() as folder, _served(options.server, options.run, Path(folder)) as url:
        for tier in TIERS:
            start = time.monotonic()
            result = _audit(options.run, url, tier, options.max_calls, Path(folder, tier))
            rows.append(_row(tier, result, time.monotonic() - start))
    for row in rows:
        print("  ".join(f"{name}: {value}" for name, value in row.items()))
    print(json.dumps(rows))


@contextmanager
def _served(program: str, run: Path, folder: Path) -> Iterator[str]:
    """URL of a server of the run's model."""
    file = folder / "tuned.gguf"
    write_tuned_gguf(packaged_gguf(), run / "model", file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-m", str(file), "--port", str(port), "-c", "4096", "-np", "4", "-t", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            _wait(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(url: str) -> None:
    end = time.monotonic() + _STARTED_WITHIN_S
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit("the server did not start")


def _audit(run: Path, url: str, tier: str, max_calls: int, out: Path) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "canary_audit", "audit", "--ledger", str(run / "ledger.json")),
        *("--endpoint", url, "--api", "llamacpp", "--model", "smollm2", "--tokenizer", str(run / "model")),
        *("--tier", tier, "--max-calls", str(max_calls), "--out", str(out), "--quiet"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def _row(name: str, result: dict[str, Any], seconds: float | None) -> dict[str, str]:
    levels = {level["insertions"]: level for level in result["levels"]}
    controls = [canary["exposure"] for canary in result["canaries"] if canary["role"] == "control"]
    known = [one["bits"] for one in controls if isinstance(one.get("bits"), float)]
    return {
        "access": name,
        **{f"{count} insertions": _interval(level) for count, level in levels.items()},
        "controls": f"{statistics.fmean(known):.1f} ({len(known)} of {len(controls)} known)" if known else "not known",
        "extracted": " of ".join(
            str(sum(level[count] for level in levels.values())) for count in ("n_extracted", "n_canaries")
        ),
        "certified": str(sum(canary["extraction"]["certified"] for canary in result["canaries"])),
        "requests": f"{result['calls']:,}",
        "seconds": "" if seconds is None else f"{seconds:.0f}",
    }


def _interval(level: dict[str, Any]) -> str:
    if isinstance(level["median_bits"], float):
        return f"{level['median_bits']:.1f}"
    if isinstance(level["low_bits"], float):
        return f"{level['low_bits']:.1f} to {level['high_bits']:.1f}"
    return "-"


if __name__ == "__main__":
    main()
