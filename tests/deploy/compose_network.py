"""compose.yaml without a container engine: its processes in namespaces, with its mounts, networks and user.

What an engine does is done here with `ip netns`, `unshare` and `setpriv`, as root: every service gets a network
namespace with one interface for each of its networks, and a root file system that holds this machine's programs,
read-only, and the service's mounts. No capability is left to it. The image itself is not tested: Python comes from this
machine.
"""

import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mpcdp

__all__ = ["ComposeNetwork", "Sockets", "why_not"]

_PROGRAMS = ("ip", "nsenter", "unshare", "setpriv", "mount", "chroot")
_TEMPORARY = "/tmp"  # noqa: S108 (a folder of the service's own)
_LISTEN = "0A"
_CONNECTED = "01"


def why_not() -> str | None:
    """Return why this machine cannot do it, None if it can."""
    if os.geteuid() != 0:
        return "namespaces are made by root"
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} are not installed"
    probe = f"mpcdp{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except subprocess.CalledProcessError:
        return "network namespaces cannot be made here"
    return None


@dataclass
class Sockets:
    """What was seen of a process's connections.

    Args:
        listening: ports it listened at.
        called: host and port of every connection it opened.
        others: lines about sockets of other protocols than TCP, after their table.
    """

    listening: set[int] = field(default_factory=set)
    called: set[tuple[str, int]] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


class ComposeNetwork:
    """The running services of a compose file; use it as a context manager, as root.

    Args:
        content: the compose file, read.
        folder: for root folders and logs.
        programs: folders that every service sees, read-only.
    """

    def __init__(self, content: Mapping[str, Any], folder: Path, *, programs: Sequence[Path]) -> None:
        self._services: Mapping[str, Any] = content["services"]
        self._networks = list(content["networks"])
        self._folder = folder
        self._programs = programs
        self._prefix = f"mpcdp{os.getpid()}"
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = dict(self._addresses())
        self.sockets = {name: Sockets() for name in self._services}

    def _addresses(self) -> Iterator[tuple[str, str]]:
        """Give every service an address in each of its networks."""
        for number, service in enumerate(self._services.values()):
            for network in service["networks"]:
                yield f"10.77.{self._networks.index(network)}.{number + 1}", list(self._services)[number]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            switch = stack.enter_context(self._namespace("switch"))
            for number in range(len(self._networks)):
                _ip("-n", switch, "link", "add", f"net{number}", "type", "bridge")
                _ip("-n", switch, "link", "set", f"net{number}", "up")
            for number, (name, service) in enumerate(self._services.items()):
                self._plug_in(stack.enter_context(self._namespace(str(number))), switch, number, service)
                self._processes[name] = self._start(name, number, service)
                stack.callback(_end, self._processes[name])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def log(self, name: str) -> str:
        """Return what a service has logged."""
        return (self._folder / f"{name}.log").read_text()

    def wait(self, seconds: float) -> dict[str, int]:
        """Wait for all services, noting their sockets, and return their exit codes."""
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in self._processes.values()) and time.monotonic() < end:
            for name, process in self._processes.items():
                self._note(name, process.pid)
            time.sleep(0.02)
        for process in self._processes.values():
            _end(process)
        return {name: process.returncode for name, process in self._processes.items()}

    def _note(self, name: str, pid: int) -> None:
        """Read the sockets of a process's network namespace."""
        sockets = self.sockets[name]
        for table in ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "packet"):
            try:
                lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            except FileNotFoundError:
                continue  # a protocol that this kernel does not have, or a process that has ended
            except OSError:
                return
            if not table.startswith("tcp"):
                # A connected UDP socket takes datagrams of its peer alone: gRPC asks a name server for a moment.
                sockets.others |= {f"{table}: {line}" for line in lines if line.split()[3] != _CONNECTED}
                continue
            entries = [line.split() for line in lines]
            sockets.listening |= {int(entry[1].rpartition(":")[2], 16) for entry in entries if entry[3] == _LISTEN}
            for entry in entries:
                # Whatever became of a connection: tried, open or closed.
                host, _, port = entry[2].rpartition(":")
                local = int(entry[1].rpartition(":")[2], 16)
                peer = socket.inet_ntoa(struct.pack("=I", int(host[-8:], 16)))
                if entry[3] == _LISTEN or peer not in self._names:
                    continue
                if local not in sockets.listening:
                    sockets.called.add((self._names[peer], int(port, 16)))
                else:  # seen from the other end too: a connection may be over before its caller is looked at
                    self.sockets[self._names[peer]].called.add((name, local))

    @contextmanager
    def _namespace(self, name: str) -> Iterator[str]:
        namespace = f"{self._prefix}-{name}"
        _ip("netns", "add", namespace)
        try:
            yield namespace
        finally:
            _ip("netns", "delete", namespace)

    def _plug_in(self, namespace: str, switch: str, number: int, service: Mapping[str, Any]) -> None:
        _ip("-n", namespace, "link", "set", "lo", "up")
        for network in service["networks"]:
            index = self._networks.index(network)
            near, far = f"eth{index}", f"v{number}n{index}"
            _ip("-n", namespace, "link", "add", near, "type", "veth", "peer", "name", far, "netns", switch)
            _ip("-n", namespace, "address", "add", f"10.77.{index}.{number + 1}/24", "dev", near)
            _ip("-n", namespace, "link", "set", near, "up")
            _ip("-n", switch, "link", "set", far, "master", f"net{index}", "up")

    def _start(self, name: str, number: int, service: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        # Of the addresses of a name only one that the service shares a network with is of use to it.
        own = {f"10.77.{self._networks.index(network)}." for network in service["networks"]}
        hosts = {host: address for address, host in self._names.items() if address[: address.rindex(".") + 1] in own}
        script = self._script(self._folder / f"{name}.root", service, hosts)
        enter = [
            "nsenter",
            f"--net=/run/netns/{self._prefix}-{number}",
            "unshare",
            "--mount",
            "/bin/sh",
            "-euc",
            script,
        ]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(enter, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _script(self, root: Path, service: Mapping[str, Any], hosts: Mapping[str, str]) -> str:
        """Write the shell script that builds a service's root folder, gives all rights up and becomes the service."""
        temporary = f"{root}{_TEMPORARY}"
        lines = ["mount --make-rprivate /", f"mkdir {root}", f"mount -t tmpfs -o mode=755 root {root}"]
        # First, because programs may lie in this folder.
        lines += [f"mkdir {temporary}", f"mount -t tmpfs -o mode=1777 temporary {temporary}"]
        for source in (*self._programs, Path("/proc"), Path("/dev")):
            lines += [f"mkdir -p {root}{source}", f"mount --rbind {source} {root}{source}"]
            lines += [f"mount -o remount,bind,ro {root}{source}"] if source in self._programs else []
        lines += [f"mkdir {root}/etc", f"cp /etc/passwd /etc/nsswitch.conf {root}/etc/"]
        text = "".join(f"{address} {host}\n" for host, address in hosts.items())
        lines += [f"printf %s {shlex.quote(text)} > {root}/etc/hosts"]
        for mount in service["volumes"]:
            source, target, *options = mount.split(":")
            make = "mkdir -p" if Path(source).is_dir() else f"mkdir -p {root}{Path(target).parent}; touch"
            # Where a mount lies within a read-only one, its folder has to be there already, as with an engine.
            lines += [f"[ -e {root}{target} ] || {{ {make} {root}{target}; }}", f"mount --bind {source} {root}{target}"]
            lines += [f"mount -o remount,bind,ro {root}{target}"] if options == ["ro"] else []
        lines += [f"mount -o remount,ro {root}"] if service["read_only"] else []
        user, group = service["user"].split(":")
        drop = f"--reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        environment = f"HOME={_TEMPORARY} PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={Path(mpcdp.__file__).parents[1]}"
        command = shlex.join([sys.executable, "-m", *service["command"]])
        return "\n".join([*lines, f"exec chroot {root} setpriv {drop} /usr/bin/env -i {environment} {command}"])


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "ip", *arguments], check=True, capture_output=True)
