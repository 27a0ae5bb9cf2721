"""`python -m tests.clients_matrix [part of a client's name …]`: run the clients, print the table; exit code 1 if a
client failed.

PENSTOCK_REAL_PYTHON names the Python of the real model server (`make clients` sets it); without it that server is
left out, and the table says so.

Above it: `make clients`. Below it: `servers`, `clients`, `features`.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from tests.clients_matrix.clients import CLIENTS, Client
from tests.clients_matrix.features import CHANCE, FEATURES, Target, Task, fault
from tests.clients_matrix.servers import everything
from tests.cluster.running import ROOT

LIMIT = 120.0
"""Seconds that one runner may take for all targets."""

TRIES = 4

Outcomes = dict[tuple[str, str], str]
"""What came of (target, feature): "" for a pass, "-" where the client has no such thing, else what went wrong."""


def run(client: Client, targets: tuple[Target, ...]) -> Outcomes:
    """One client with every target. What a real model's chance spoiled is asked again."""
    outcomes: Outcomes = {}
    for _ in range(TRIES):
        outcomes.update(_run_once(client, targets))
        spoiled = {name for (name, _), outcome in outcomes.items() if any(word in outcome for word in CHANCE)}
        targets = tuple(target for target in targets if target.name in spoiled and not target.steady)
        if not targets:
            break
    return outcomes


def _run_once(client: Client, targets: tuple[Target, ...]) -> Outcomes:
    task = msgspec.json.encode(Task(targets)).decode()
    try:
        done = subprocess.run([*client.command, task], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
        output, said = done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        output, said = (error.stdout or b"").decode(), f"not done after {LIMIT:g} s"
    except OSError as error:
        output, said = "", str(error)
    last = (said.strip().splitlines() or ["the runner said nothing"])[-1]
    outcomes = {(target.name, feature): last for target in targets for feature in FEATURES}
    outcomes.update(_reported(output, {target.name: target for target in targets}))
    return outcomes


def _reported(output: str, targets: dict[str, Target]) -> Iterator[tuple[tuple[str, str], str]]:
    for line in output.splitlines():
        if not line.startswith('{"target"'):
            continue
        told = json.loads(line)
        place = (told["target"], told["feature"])
        if "error" in told:
            yield place, (told["error"].strip().splitlines() or ["an error without words"])[0]
        elif told["saw"] is None:
            yield place, "-"
        else:
            yield place, fault(told["feature"], told["saw"], targets[told["target"]])


def cell(outcomes: Outcomes, feature: str) -> str:
    """One feature of one client over all targets: "pass", "-", or how many of them fail."""
    of_feature = [outcome for (_, name), outcome in outcomes.items() if name == feature]
    failed = [outcome for outcome in of_feature if outcome not in ("", "-")]
    if failed:
        return f"FAIL {len(failed)}/{len(of_feature)}"
    return "-" if set(of_feature) == {"-"} else "pass"


def failures(outcomes: Outcomes) -> Iterator[str]:
    """What went wrong, a line for each feature and wording."""
    places = defaultdict(list)
    for (target, feature), outcome in outcomes.items():
        if outcome not in ("", "-"):
            places[feature, outcome].append(target)
    for (feature, outcome), names in places.items():
        yield f"    {feature} ({', '.join(names)}): {outcome[:300]}"


def main(wanted: list[str]) -> int:
    """Run the clients whose names hold one of `wanted`, all if it is empty."""
    chosen = [client for client in CLIENTS if not wanted or any(word in client.name for word in wanted)]
    width = max(len(client.name) for client in CLIENTS) + 2
    failed = 0
    with everything() as targets:
        print("targets:", ", ".join(target.name for target in targets), end="\n\n")
        print("".ljust(width) + "".join(feature.ljust(13) for feature in FEATURES) + "seconds", flush=True)
        for client in chosen:
            began = time.monotonic()
            outcomes = run(client, targets)
            cells = "".join(cell(outcomes, feature).ljust(13) for feature in FEATURES)
            print(f"{client.name.ljust(width)}{cells}{time.monotonic() - began:.1f}")
            print("".join(f"{line}\n" for line in failures(outcomes)), end="", flush=True)
            failed += any(outcome not in ("", "-") for outcome in outcomes.values())
    print(f"\n{len(chosen) - failed} of {len(chosen)} clients pass")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
