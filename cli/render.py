"""Events, errors and states as text for people (one line an event) and as JSON for machines.

Every text passes `clean`, because part of it was written by the target.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import time
from typing import Any

from netbridge.bridge import events
from netbridge.bridge.errors import BridgeError

from .text import clean

NETWORKS_SHOWN = 12
"""Networks named on one line; the state (netbridge status) has them all."""

NEARLY = 0.9
"""Share of a limit from which on a state mentions it."""


def line(event: events.Event) -> str:
    """What happened, on one line."""
    return clean(_sentence(event))


def _sentence(event: events.Event) -> str:
    match event:
        case events.Starting(stage=stage):
            return f"{stage} …"
        case events.Connected() as it:
            carried = "super-segments" if it.offload else "plain packets"
            means = f"a packet socket on {it.tun}" if it.capture == "packet" else it.tun
            stages = ", ".join(f"{stage} {span(seconds)}" for stage, seconds in it.stages)
            return (f"connected to {it.host or it.target} as {it.user} (Linux {it.kernel}, Python {it.python}) "
                    f"by {means} {', '.join(it.addresses)}, MTU {it.mtu}, {carried}, in {it.seconds:.1f} s"
                    f"{f' ({stages})' if stages else ''}")
        case events.Captured(networks=networks):
            return f"captured: {_networks(networks)}" if networks else "captured: nothing (name networks by --route)"
        case events.Skipped(networks=networks):
            return f"not captured: {_networks(networks)}"
        case events.HostRoute() as it:
            who = f"{it.name} ({it.address})" if it.name else f"{it.address}, to which flows are open,"
            if it.refused:
                return f"{who} in {it.network} is not reached through the bridge: {it.refused}"
            return f"{who} in {it.network} is reached through the bridge, for {span(it.seconds)} and while in use"
        case events.Dns(on=True) as it:
            suffixes = f", always {', '.join(it.suffixes)}" if it.suffixes else ""
            return f"names: asked here by way of {it.listen or 'the bridge'} ({it.mode}{suffixes})"
        case events.Dns(mode=mode):
            return "names: not asked here" if mode == "off" else "names: the resolver over there stays as it is"
        case events.Ready():
            return "ready"
        case events.FlowDenied() as it:
            port = f" port {it.port}" if it.port else ""
            origin = f" from {it.source}{f' port {it.source_port}' if it.source_port else ''}" if it.source else ""
            final = f" ({it.final})" if it.final not in {"", it.destination} else ""
            times = f" ({it.times} times now)" if it.times > 1 else ""
            return f"denied: {it.protocol}{origin} to {it.destination}{final}{port}: {it.reason}{times}"
        case events.FlowsDenied() as it:
            more = f"{it.count} more flow{'' if it.count == 1 else 's'}"
            return f"denied: {more} in the last {span(it.seconds)}, {it.total} in all"
        case events.HostAlias() as it:
            nothing = "but no rule opens a port of it; --allow 127.0.0.1:PORT does"
            opened = f"as far as opened: {', '.join(it.rules)}" if it.rules else nothing
            return f"{it.name} ({', '.join(it.addresses)}) is this machine's loopback, {opened}"
        case events.SshAgent(path=path, why=why):
            if not path:
                return f"the ssh-agent cannot be used over there: {why or 'the agent gave no reason'}"
            return f"the ssh-agent can be used over there: export SSH_AUTH_SOCK={shlex.quote(path)}"
        case events.Metrics(url=url, others=others):
            return f"metrics: {url}{'; mind: whoever reaches that address can read them' if others else ''}"
        case events.Hint(text=text):
            return f"hint: {text}"
        case events.CommandStarted(command=command):
            return f"running {' '.join(command)}" if command else "a shell over there; the bridge ends with it"
        case events.CommandEnded(status=status):
            return f"the command ended with status {status}"
        case events.Lost(why=why):
            return f"the connection is lost: {why}"
        case events.Interrupted() as it:
            return f"the connection broke, flows wait up to {span(it.grace)} while it is made anew: {it.why}"
        case events.Reconnecting() as it:
            tries = "one try" if it.tries == 1 else f"{it.tries} tries"
            return f"no connection yet ({tries}, the next in {span(it.wait)}): {it.why}"
        case events.Resumed() as it:
            return f"the connection is there again after {span(it.seconds)}; every flow goes on"
        case events.Stopping(reason=reason):
            return f"stopping: {reason}"
        case events.Stopped() as it:
            over_there = "" if it.clean else "; the agent did not confirm that it put everything back"
            flows = f"{it.flows} flow{'' if it.flows == 1 else 's'}"
            return (f"stopped after {span(it.seconds)}: {flows}, {size(it.bytes_up)} from there, "
                    f"{size(it.bytes_down)} to there{over_there}")
    return type(event).__name__


def _networks(networks: tuple[events.Network, ...]) -> str:
    shown = [f"{it.network} ({it.reason})" if it.reason else it.network for it in networks[:NETWORKS_SHOWN]]
    if more := len(networks) - len(shown):
        shown.append(f"and {more} more")
    return ", ".join(shown)


def record(event: events.Event) -> str:
    """The event as one JSON object with `time` (Unix seconds) and `event` (its kind in snake_case)."""
    return json.dumps({"time": round(time.time(), 3), "event": kind(event), **dataclasses.asdict(event)})


def kind(event: events.Event) -> str:
    """The kind of an event in snake_case, as JSON names it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()


def notification(event: events.Event) -> dict[str, str]:
    """What a service manager hears of an event (sd_notify(3)): the stages of a bridge, in a person's words."""
    match event:
        case events.Ready():
            return {"READY": "1", "STATUS": line(event)}
        case events.Stopping():
            return {"STOPPING": "1", "STATUS": line(event)}
        case (events.Starting() | events.Connected() | events.Interrupted() | events.Reconnecting() | events.Resumed()
              | events.Lost() | events.Stopped()):
            return {"STATUS": line(event)}
    return {}


def failure(error: BridgeError, form: str) -> str:
    """What, why and what to do."""
    what = _full_stop(error.what)
    why = _full_stop(error.why) or "Nothing more is known."
    todo = _full_stop(error.todo) or "Run it again with --trace-level debug to see how far it came."
    if form == "json":
        fields = {"what": what, "why": why, "todo": todo, "exit_code": error.exit_code}
        return json.dumps({"time": round(time.time(), 3), "event": "failed", **fields})
    return "netbridge: " + " ".join(clean(part) for part in (what, why, todo) if part)


def _full_stop(text: str) -> str:
    """A sentence has an end, also when it closes with someone else's words."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def state(status: dict[str, Any]) -> list[str]:
    """One bridge's state in a few lines."""
    if "error" in status:
        return [clean(f"bridge {status.get('number')}: {status['error']}")]
    about = f"{status['state']}, process {status['pid']}, {span(status['uptime'])}"
    lines = [f"bridge {status['number']}: {status['target']} ({about})"]
    overlapping = tuple(events.Network(it["network"], it["reason"]) for it in status.get("overlapping", ()))
    for key, name in (("captured", "captured"), ("skipped", "not captured"), ("excluded", "excluded")):
        if networks := status.get(key):
            found = tuple(events.Network(it["network"], it["reason"]) for it in networks)
            if key == "skipped":  # what overlaps has a line of its own
                found = tuple(it for it in found if it.network not in {each.network for each in overlapping})
            if key == "excluded":  # what no bridge ever captures is left to --json
                found = tuple(it for it in found if "--exclude" in it.reason or "tunnel" in it.reason)
            if found:
                lines.append(f"  {name}: {_networks(found)}")
    if overlapping:
        lines.append(f"  overlapping (hosts by name only): {_networks(overlapping)}")
    if hosts := status.get("host_routes"):
        lines.append(f"  host routes: {len(hosts)}")
        lines += [f"    {host_line(host)}" for host in hosts[-NETWORKS_SHOWN:]]
    if connection := status.get("connection"):
        trip = f", round trip {connection['rtt'] * 1000:.1f} ms" if connection.get("rtt") else ""
        lines.append(f"  connection: {'up' + trip if connection.get('up') else 'down, it is being made anew'}")
    if (agent := status.get("agent", {})).get("capture") == "packet":
        lines.append(f"  capture: by a packet socket on {agent.get('tun')}; packets leave towards the gateway as well")
    elif agent.get("capture"):
        lines.append(f"  capture: by {agent.get('tun')}")
    if dns := status.get("dns"):
        lines.append(f"  names: {_names(dns, agent)}")
    if path := agent.get("ssh_agent"):
        lines.append(f"  ssh-agent: over there at {path}")
    totals = status.get("totals", {})
    by_protocol = ", ".join(f"{count} {name}" for name, count in totals.items())
    lines.append(f"  flows: {sum(totals.values())} open{f' ({by_protocol})' if by_protocol else ''}")
    if denied := status.get("counters", {}).get("policy", {}).get("denied"):
        lines.append(f"  denied: {denied} flow{'' if denied == 1 else 's'}")
    full = [
        f"{name} ({it['used']} of {it['limit']})"
        for name, it in status.get("limits", {}).items() if it.get("used", 0) >= NEARLY * it["limit"]
    ]
    if full:
        lines.append(f"  nearly used up: {', '.join(full)}")
    if (memory := status.get("memory")) and memory.get("resident"):
        lines.append(f"  memory: {size(memory['resident'])}")
    return [clean(text) for text in lines]


def _names(dns: dict[str, Any], agent: dict[str, Any]) -> str:
    """Who is asked for which name."""
    if not dns.get("on"):
        why = "off" if dns.get("mode") == "off" else agent.get("dns_reason") or "the agent gave no reason"
        return f"not asked here ({why})"
    here = f"here ({', '.join(dns['nameservers'][:NETWORKS_SHOWN])})" if dns.get("nameservers") else "here"
    search = f"; short names try {', '.join(dns['search'][:NETWORKS_SHOWN])}" if dns.get("search") else ""
    if dns.get("mode") == "all":
        return f"all asked {here}{search}"
    below = ", ".join(dns.get("private", ())[:NETWORKS_SHOWN])
    private = f"below {below} and " if below else ""
    return f"asked {here} first {private}for captured addresses, over there first for all others{search}"


def host_line(host: dict[str, Any]) -> str:
    """One host route of a state."""
    names = ", ".join(host.get("names", ())) or "open flows"
    rest = f"refused: {host['refused']}" if host.get("refused") else f"{span(host.get('seconds', 0))} left"
    used = ", in use" if host.get("in_use") else ""
    return f"{host.get('address')} in {host.get('network')} ({names}), {rest}{used}"
