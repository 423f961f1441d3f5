"""Local mode of SageMaker's Python SDK v2."""

import shutil

from sagemaker.local import LocalSession, local_session

if shutil.which("docker") is None:
    # Before each request the SDK asks the docker command for the engine's host. Without the command it would fail,
    # though the server is a process of this machine.
    local_session.get_docker_host = lambda: "localhost"


def connect(port, root=None):
    """Makes a session whose endpoint is on a port of this machine.

    Args:
        port: to reach the endpoint on.
        root: the folder below which the SDK keeps what its containers mount.
    """
    session = LocalSession()
    session.config = {"local": {"serving_port": port} | ({} if root is None else {"container_root": root})}
    return session
