"""Runs an example of docs/sagemaker.md in a folder, with its image by the name that the tests gave it."""

import contextlib
import io
import os

from driver import main


def drive(code, image, named, folder, port=None):
    """Runs the example.

    Args:
        code: as it is in the document.
        image: there is this one ...
        named: ... in place of the one that the example names.
        folder: to run in.
        port: for SDK v2's endpoint, which is 8080 unless somebody says otherwise.
    """
    if port is not None:
        serve_on(port, folder)
    os.chdir(folder)
    assert named in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(named, image), "docs/sagemaker.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def serve_on(port, folder):
    """Gives each session the port, and a folder for what its containers mount."""
    from sagemaker.local import LocalSession  # noqa: PLC0415 (SDK v3 has none)

    begin = LocalSession.__init__

    def configured(session, *arguments, **options):
        begin(session, *arguments, **options)
        session.config = {"local": {"serving_port": port, "container_root": folder}}

    LocalSession.__init__ = configured


main(drive)
