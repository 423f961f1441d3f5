"""Writes and reads RecordIO files with MXNet; payloads are hexadecimal."""

from driver import main
from mxnet.recordio import MXRecordIO


def drive(path, payloads=None):
    """Writes the payloads, or reads the file if there are none."""
    if payloads is None:
        file = MXRecordIO(path, "r")
        return [payload.hex() for payload in iter(file.read, None)]
    file = MXRecordIO(path, "w")
    for payload in payloads:
        file.write(bytes.fromhex(payload))
    file.close()
    return None


main(drive)
