"""The bridge: a target whose packets are carried to this machine's own sockets.

:mod:`.session` is one bridge from start to stop and joins the rooms: :mod:`.transport` reaches the target,
:mod:`.bootstrap` starts the agent there, :mod:`.link` carries packets, :mod:`.engine` stands on it (the stack, the
forwarders of :mod:`.forward`, the service of :mod:`.dns`), :mod:`.capturing` follows :mod:`.routes`. :mod:`.options`
says what is asked for, :mod:`.events` what happens, :mod:`.control` answers those who ask, in the folder of
:mod:`.runtime`.
"""
