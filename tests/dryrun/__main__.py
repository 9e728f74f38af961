"""`make dryrun`: every large config compiled for its pod, the ledgers held against the compiler.

Fails when a config does not fit, when the counted peak is further than 15% from the compiler's, or
when 70B takes more than 1.5 times as long to compile as 7B.
"""

import sys
import time

from research import study
from research.dryrun import command, price
from research.dryrun.estimate import estimate
from research.numbers import gib

PODS = {
    "dit_xl": "v5e:2x4",
    "lm_1b": "v5e:4x8",
    "dit_7b": "v5e:16x16",
    "lm_7b": "v5e:16x16",
    "moe_8x7b": "v5p:8x8x8",
    "lm_70b": "v5p:8x8x8",
}
WITHIN = 0.15
DEEPER = 1.5  # compile time of 70B over that of 7B: their layers are scanned


def main(words: list[str]) -> int:
    """Dry-run the configs named, all by default, `--fast` or not; return 1 when one fails."""
    names, fast = [word for word in words if word != "--fast"], "--fast" in words
    print(
        f"{'config':9s} {'pod':10s} {'arguments':>11s} {'temporaries':>12s} {'peak':>11s} "
        f"{'counted':>11s} {'off':>6s} {'compile':>8s} {'CPU':>7s} {'floor':>9s} {'MFU':>6s}"
    )
    failed, spent = False, {}
    for name in names or PODS:
        began = time.process_time()
        wanted = command.parse(PODS[name], 1)
        spec = f"experiments/{name}.py"
        config = study.load_config(spec, num_devices=wanted.num_devices, prepared=False)
        found = estimate(config, wanted, price.load(), fast)
        spent[name] = time.process_time() - began
        compiled, chip = found.compiled, wanted.kind.devices_per_chip
        if compiled is None or not found.fits or found.peak is None:
            print(f"{name:9s} {PODS[name]:10s} does not fit: {compiled and compiled.refusal}")
            failed = True
            continue
        off = found.counted / found.peak - 1
        failed |= abs(off) > WITHIN
        print(
            f"{name:9s} {PODS[name]:10s} {gib(compiled.arguments * chip):>11s} "
            f"{gib(compiled.temporaries * chip):>12s} {gib(found.peak * chip):>11s} "
            f"{gib(found.counted * chip):>11s} {off:+6.1%} {compiled.seconds:6.1f} s "
            f"{spent[name]:5.0f} s {found.step.seconds_floor:7.4f} s {found.step.mfu_bound:6.1%}",
            flush=True,
        )
    if {"lm_7b", "lm_70b"} <= set(spent):
        ratio = spent["lm_70b"] / spent["lm_7b"]
        failed |= ratio > DEEPER
        print(f"70B compiles in {ratio:.2f} times the CPU time of 7B (at most {DEEPER})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
