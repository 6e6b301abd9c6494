"""All checks in order, each told as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable

from ..options import Options
from ..transport import SandboxTarget, make_transport, parse_target
from ..user import User
from . import machine, names, networks, programs, target
from .report import Check, Report, Tell


async def examine(
    options: Options, user: User, tell: Tell, *, progress: Callable[[str], None], log: Callable[[str], None],
    interactive: bool,
) -> Report:
    """Check this machine and, where `options` name one, the target. Raises UsageError for a target that is none.

    `progress` is told what a long stage is doing, `log` what helper programs say; both untrusted.
    """
    report = Report(options.target)

    def say(check: Check) -> None:
        report.checks.append(check)
        tell(check)

    wanted = parse_target(options.target) if options.target else None
    for check in machine.checks(options.limits):
        is_it = isinstance(wanted, SandboxTarget) and check.name == "sandbox"
        say(machine.sandbox_fault(check) if is_it else check)
    async for check in programs.checks(wanted, user):
        say(check)
    async for check in names.checks(options.dns_domain):
        say(check)
    snapshot, why = await networks.look()
    for check in networks.checks(snapshot, why, options):
        say(check)
    if wanted is None or report.exit_code:
        return report
    progress("reaching the target")
    transport = make_transport(
        options.target, ssh=None if options.ssh == "auto" else options.ssh, log=log, interactive=interactive,
        progress=progress,
    )
    async for check in target.checks(options, transport, user, snapshot):
        say(check)
    return report
