"""SSH inside this process, by asyncssh: needs no ssh program, and asks, trusts and logs in as that program would.

The socket is made here (directly, by ProxyCommand as the user, or by ProxyJump through other hosts), because only
then do refused, silent and unknown hosts differ. A host key that is not known ends the attempt; on a terminal the
user is shown its fingerprint, and after a yes it is remembered and the connection is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
from collections.abc import Callable, Sequence

import asyncssh

from ..errors import BridgeError, TargetUnreachableError, UsageError
from ..user import User, in_person
from . import ssh_errors
from .ask import ask
from .asyncssh_channel import MOST_PACKET, WINDOW, AsyncsshChannel
from .asyncssh_client import Client
from .base import Channel, Transport
from .known_hosts import Strictness
from .process import SOCKET_BUFFER
from .relay import relay, write_all
from .remote_command import supervised
from .ssh_proxy import Proxy
from .ssh_settings import CAN_UNLOCK, SshSettings, read_settings
from .target import SshTarget, parse_target
from .terminal import has_terminal

CONNECT_TIMEOUT = 30.0
"""Seconds for TCP to answer, over all the host's addresses, and then for the server's first word; where ~/.ssh/config
says nothing (ConnectTimeout)."""
CLOSE_PATIENCE = 3.0
"""Seconds for the server to confirm the end."""
MOST_JUMPS = 8


class AsyncsshTransport(Transport):
    """An SSH host, reached by asyncssh."""

    def __init__(self, target: SshTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        self._target = target
        self._user = user
        self._log = log
        self._interactive = interactive
        self._connections: list[asyncssh.SSHClientConnection] = []
        """Jump hosts first, the target last."""
        self._proxies: list[Proxy] = []
        self._channels: list[AsyncsshChannel] = []

    def __repr__(self) -> str:
        return f"<AsyncsshTransport {self._target}>"

    async def connect(self) -> None:
        try:
            await self._log_in(self._target, None, 0)
        except BaseException:
            await self.close()
            raise

    async def open(self, command: str) -> Channel:
        return await self._session(AsyncsshChannel(self._log), command)

    async def run(self, argv: Sequence[str]) -> int:
        command = shlex.join(argv) if argv else None
        channel = AsyncsshChannel(self._log, errors=lambda data: write_all(2, data))
        if not has_terminal():
            await self._session(channel, supervised(argv) if argv else None)
            return await relay(channel, channel.end_input)
        size = os.get_terminal_size(0)
        await self._session(channel, command, terminal=(size.columns, size.lines))

        def resized() -> None:
            now = os.get_terminal_size(0)
            channel.resize(now.columns, now.lines)

        return await relay(channel, channel.end_input, resized)

    async def close(self) -> None:
        connections, self._connections = self._connections, []
        proxies, self._proxies = self._proxies, []
        for connection in reversed(connections):
            connection.close()
            try:
                async with asyncio.timeout(CLOSE_PATIENCE):
                    await connection.wait_closed()
            except TimeoutError:
                connection.abort()
        for proxy in proxies:
            await proxy.close()

    async def _session(
        self, channel: AsyncsshChannel, command: str | None, terminal: tuple[int, int] | None = None
    ) -> AsyncsshChannel:
        if not self._connections:
            raise ssh_errors.lost(self._target, "It is not connected.")
        channel.explain = lambda error: ssh_errors.lost(self._target, f"{error}.")
        try:
            await self._connections[-1].create_session(
                lambda: channel,
                command,
                encoding=None,
                window=WINDOW,
                max_pktsize=MOST_PACKET,
                request_pty="force" if terminal else False,
                term_type=os.environ.get("TERM", "dumb") if terminal else None,
                term_size=terminal,
            )
        except (asyncssh.Error, OSError) as error:
            raise TargetUnreachableError(
                f"{self._target} does not run a command.",
                f"{error}.",
                f"Check that `{ssh_errors.ssh_command(self._target)} true` works.",
            ) from error
        return channel

    async def _log_in(
        self, target: SshTarget, via: asyncssh.SSHClientConnection | None, depth: int
    ) -> asyncssh.SSHClientConnection:
        """Log in to a host, through the host before it where there is one."""
        settings = self._settings(target)
        if via is None:
            via = await self._jump(settings, depth)
        if via is None and not settings.proxy_command and not depth:
            # Where the tunnel itself goes; unknown behind a proxy.
            address = await self._resolve(target, settings)
            self.peer_address = address[0][4][0] if address else None
        client = Client(settings, self._log, interactive=self._interactive)
        for last_attempt in (False, True):
            try:
                connection = await self._attempt(target, settings, client, via)
            except asyncssh.HostKeyNotVerifiable as error:
                if last_attempt or not await self._accepts(target, settings, client):
                    raise self._distrust(target, settings, client) from error
                continue
            except BridgeError:
                raise
            except (asyncssh.Error, OSError, ValueError) as error:
                raise _explain(target, error, client) from error
            self._connections.append(connection)
            return connection
        raise AssertionError

    def _settings(self, target: SshTarget) -> SshSettings:
        """What is known of a host before it is reached."""
        return read_settings(target, self._user, interactive=self._interactive)

    async def _attempt(
        self, target: SshTarget, settings: SshSettings, client: Client, via: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        arguments = {**settings.arguments, "client_factory": lambda: client}
        if via is not None:
            arguments["tunnel"] = via
            return await asyncssh.connect(settings.host, settings.port, options=settings.options, **arguments)
        if settings.proxy_command:
            proxy = Proxy(settings.proxy_command, self._user, self._log, interactive=self._interactive)
            self._proxies.append(proxy)
            stream = proxy.stream
            if not await proxy.speaks():
                stream.close()
                raise ssh_errors.closed_early(target, f"ProxyCommand: {proxy.last_words() or 'ended'}.")
        else:
            stream = await self._dial(target, settings)
        try:
            if not settings.proxy_command:
                # The login may take minutes of a person's time, but a server's first word is a machine's: without this
                # wait a port that only accepts would be given as long (ssh's ConnectTimeout covers it as well).
                await _first_word(target, stream, _patience(settings))
            return await asyncssh.connect(
                settings.host, settings.port, options=settings.options, sock=stream, **arguments
            )
        except BaseException:
            stream.close()
            raise

    async def _jump(self, settings: SshSettings, depth: int) -> asyncssh.SSHClientConnection | None:
        connection = None
        if settings.jumps and depth >= MOST_JUMPS:
            raise UsageError(
                "ProxyJump leads in a circle.", f"It goes on after {MOST_JUMPS} hosts.", "Correct ~/.ssh/config."
            )
        for name in settings.jumps:
            hop = parse_target(name if name.startswith("ssh://") else f"ssh://{name}")
            assert isinstance(hop, SshTarget)
            connection = await self._log_in(hop, connection, depth + 1)
        return connection

    async def _resolve(
        self, target: SshTarget, settings: SshSettings
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        try:
            return await asyncio.get_running_loop().getaddrinfo(  # type: ignore[return-value]
                settings.host, settings.port, type=socket.SOCK_STREAM, family=settings.options.family
            )
        except (socket.gaierror, UnicodeError) as error:
            raise ssh_errors.unknown_host(target, f"{error}.") from error

    async def _dial(self, target: SshTarget, settings: SshSettings) -> socket.socket:
        """A connected socket to the first address that answers."""
        addresses = await self._resolve(target, settings)
        failures: list[OSError] = []
        for family, kind, protocol, _name, address in addresses:
            stream = socket.socket(family, kind, protocol)
            stream.setblocking(False)
            with contextlib.suppress(OSError):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            try:
                async with asyncio.timeout(_patience(settings) / len(addresses)):
                    await asyncio.get_running_loop().sock_connect(stream, address)
            except OSError as error:  # TimeoutError is one
                stream.close()
                failures.append(error)
            except BaseException:
                stream.close()
                raise
            else:
                self.peer_address, self.peer_port = address[:2]
                return stream
        if all(isinstance(failure, ConnectionRefusedError) for failure in failures):
            raise ssh_errors.refused(target)
        why = next((f"{failure.strerror}." for failure in failures if failure.strerror), "It was silent.")
        raise ssh_errors.no_answer(target, why)

    async def _accepts(self, target: SshTarget, settings: SshSettings, client: Client) -> bool:
        """Whether the user takes the unknown key that was offered; it is then remembered."""
        key = client.offered
        if key is None or client.changed or settings.strictness is Strictness.YES:
            return False
        if settings.strictness is Strictness.ASK:
            if not self._interactive:
                return False
            question = (
                f"The authenticity of host {settings.key_name} cannot be established.\r\n"
                f"{key.get_algorithm()} key fingerprint is {key.get_fingerprint()}.\r\n"
                "Are you sure you want to continue connecting (yes/no)? "
            )
            if (await ask(question, echo=True) or "").strip().lower() != "yes":
                return False
        client.accepted = key
        try:
            with in_person(self._user):
                settings.known_hosts.add(self._user, settings.key_name, settings.port, key)
        except OSError as error:
            self._log(f"the host key could not be remembered: {error}")
        return True

    @staticmethod
    def _distrust(target: SshTarget, settings: SshSettings, client: Client) -> BridgeError:
        fingerprint = client.offered.get_fingerprint() if client.offered is not None else ""
        # known_hosts is about the place that was really meant, after ~/.ssh/config
        if client.offered is None or client.changed:
            return ssh_errors.host_key_changed(target, fingerprint, settings.key_name, settings.port)
        return ssh_errors.host_key_unknown(target, fingerprint)


def _patience(settings: SshSettings) -> float:
    return float(settings.options.connect_timeout or CONNECT_TIMEOUT)


async def _first_word(target: SshTarget, stream: socket.socket, seconds: float) -> None:
    """Wait until the server identifies itself, as it must at once (RFC 4253 section 4.2). Raises a BridgeError."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_reader(stream.fileno(), heard.set)
    try:
        async with asyncio.timeout(seconds):
            await heard.wait()
    except TimeoutError:
        raise ssh_errors.no_answer(target, "It accepted the connection and then was silent.") from None
    finally:
        loop.remove_reader(stream.fileno())


def _explain(target: SshTarget, error: Exception, client: Client) -> BridgeError:
    why = f"{error}.".replace("..", ".")
    if isinstance(error, asyncssh.PermissionDenied):
        if not CAN_UNLOCK:
            why += " Keys with a passphrase count only in ssh-agent here: the Python package bcrypt is missing."
        return ssh_errors.not_let_in(target, why)
    if isinstance(error, ConnectionRefusedError):
        return ssh_errors.refused(target)
    if isinstance(error, asyncssh.ChannelOpenError):
        return ssh_errors.no_answer(target, f"The host before it says: {why}")
    return ssh_errors.closed_early(target, client.reason or why)
