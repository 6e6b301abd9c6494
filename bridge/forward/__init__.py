"""Re-origination: every flow from the codespace leaves by an ordinary socket of this machine.

`tcp`, `udp` and `icmp` are the forwarders, each set as the `forward` hook of its room in the stack. They share the
`poller` that watches host sockets, the `policy` that says where flows may go, the `flows` table with its counters, and
the `limits`. UDP and ICMP, which both own one connected socket a flow, share `hostflows` and `hostsocket`; `problems`
says which errno becomes which ICMP error.
"""
