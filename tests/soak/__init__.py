"""The soak: mixed traffic for many minutes through a real bridge whose link loses and reorders packets.

    codespace: workers ─ kernel ─ nb0 ─ agent ══ ssh ══ netbridge [weather] stack ─ sockets ─ corp: real servers

`stormy.py` is the bridge: the ordinary program in a process of its own, its link wrapped in a FaultLink, which writes
what can be seen inside (tasks, descriptors, flows, timers, losses) to a file. `workers.py` has the frame of a worker,
`tcp_workers.py` and `other_workers.py` what each does and how it knows that it went well; `corp.py` is the server for
what no real server does (resets, half-closes, waiting for ever). `watch.py` judges what `stormy.py` wrote. `run.py`
puts it together: traffic, checks each 30 s, silence, and what must be left then: nothing.

IPv4 keeps its super-segments, so there a whole one is lost; IPv6 is cut into packets of the MTU first, as a network
without offload would see them. Both ways one packet in a hundred is lost and one in a hundred is overtaken.

`make soak` runs it for 20 minutes, tests/net/test_soak.py for seconds.
"""
