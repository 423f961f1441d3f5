"""What every driver does: takes its arguments, leaves its result, and reaches nothing outside this machine."""

import json
import sys
from pathlib import Path

_HERE = (None, "", "localhost", "127.0.0.1", "::1")

_refused = []


def _stay_here(event, arguments):
    host = None
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if isinstance(host, bytes):
        host = host.decode()
    if host not in _HERE:
        _refused.append(host)
        raise OSError(f"{host} is outside this machine")


def main(drive):
    """Calls `drive` with the JSON object on standard input; its result goes to the file on the command line."""
    sys.addaudithook(_stay_here)
    result = drive(**json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps({"result": result, "refused": _refused}))
