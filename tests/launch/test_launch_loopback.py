"""The processes of one run on one machine listen to nobody outside it, by the kernel's own list."""

import ipaddress
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests import tiny

TEAM = """
import sys
from launch import processes
team = processes.start(["tests.launch.listeners", sys.argv[1]], [[], []], devices=1)
print(processes.watch(team))
"""
ELSEWHERE = "192.0.2.1"  # an address that no machine has


@pytest.mark.parametrize("name", ["own", "another"])
def test_a_team_listens_on_loopback_only(tmp_path, name):
    """Whatever address this machine's name has: the second is given one in a room of its own."""
    command = [sys.executable, "-c", TEAM, str(tmp_path)]
    if name == "another":
        lives = 'ip link set lo up && ip addr add $0/32 dev lo && hostname $0 && exec "$@"'
        room = ["unshare", "--uts", "--net", "sh", "-c", lives, ELSEWHERE]
        if (
            not shutil.which("ip")
            or subprocess.run([*room, "true"], capture_output=True).returncode
        ):
            pytest.skip("no right to give this machine another name")
        command = [*room, *command]
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, cwd=tiny.ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["(0, 0)"], done.stderr
    found = [json.loads((tmp_path / index).read_text()) for index in "01"]
    addresses = [ipaddress.ip_address(address) for each in found for address in each]
    plain = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    assert all(found) and all(address.is_loopback for address in plain), found
