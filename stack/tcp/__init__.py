"""TCP, split by role: segment and options, sequence arithmetic, states, sender, receiver, timers, congestion control.

`tcb`, `arrival` and `connection` join them into RFC 9293's state machine without I/O; `endpoint` finds the connection
of a segment, `flow` pumps it; `streams` is asyncio's face.
"""
