"""The bridge: an agent over there, a stack and forwarders here, and a session that keeps them together."""
