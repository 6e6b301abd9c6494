"""The test bed: four computers made of namespaces, with real servers on them.

    codespace ──── eth0 ──── laptop ──── eth1 ──── corp ──── eth1 ──── branch
    172.30.7.2              172.30.7.1             10.99.0.2           10.97.0.2
    fd30:7::2               fd30:7::1              fd99::2             fd97::2
                            10.99.0.1, fd99::1     10.97.0.1, fd97::1

`codespace` has an OpenSSH server, users with different faults, its own resolver, a docker0 and a default route to the
laptop, which forwards nothing. `laptop` runs netbridge; its resolv.conf names corp's DNS server. `corp` has nginx,
PostgreSQL, Redis, unbound, iperf3 and a UDP echo, and knows no way to the codespace. `branch`, an office behind corp,
has nginx and a UDP echo; corp, the only router there is, forwards between the laptop and the branch office over a line
whose MTU is 1300. Corp and branch send ICMP errors without the kernel's limits, which would be measured instead of the
bridge's.

Every computer is an init process in its own network, mount, PID, IPC and host-name namespace. Nothing outlives that
process: it is killed when the world closes, and by the kernel (PR_SET_PDEATHSIG) when the test run dies; links, routes,
mounts and all programs go with it. The host's own network, files and processes are never touched, apart from one folder
under /var/tmp.
"""

from .bridge import Bridge
from .machine import Machine, Output, Program
from .world import World, missing

__all__ = ["Bridge", "Machine", "Output", "Program", "World", "missing"]
