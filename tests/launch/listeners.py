"""One process of a team: writes the addresses that it listens on, once all have met, to argv[1]."""

import json
import os
import socket
import sys
from pathlib import Path

from research import runtime

LISTENING = "0A"  # of /proc/net/tcp


def listeners() -> list[str]:
    """The addresses on which this process listens, by its own open sockets."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    own, found = {link for link in links if link.startswith("socket:")}, []
    for family, file in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/self/net/{file}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and f"socket:[{words[9]}]" in own:
                parts = words[1].partition(":")[0]
                packed = bytes.fromhex(parts)
                swapped = b"".join(packed[i : i + 4][::-1] for i in range(0, len(packed), 4))
                found.append(socket.inet_ntop(family, swapped))
    return found


if __name__ == "__main__":
    runtime.follow()
    runtime.join()
    from research.processes import all_agree

    assert all_agree(True)  # everybody's sockets are open
    Path(sys.argv[1], os.environ["JAX_PROCESS_ID"]).write_text(json.dumps(listeners()))
    assert all_agree(True)
