"""TCP, split by role; each class adds one role to the one it is made from, and files import in that order alone.

- Bytes and numbers: `segment` (header and options), `output` (headers on the link), `seq`, `states` (moves as a table).
- The sending half, `Sender`: `sendqueue`, `copies` (what is sent again), `tailprobe`, `detection` (what is lost),
  `recovery` (what is done about it), `reports` (what the peer tells), `sender` (what may leave). With them
  `scoreboard`, `rack`, `prr`, `rto`, and behind a few hooks `congestion`, `cubic`, `hystart`.
- The receiving half: `receiver`, `reassembly`, `budget`.
- A connection without I/O: `tcb`, `intake` (payload and FIN), `acknowledged` (ACK), `opening` (SYN), `arrival` (RFC
  9293's steps in their order), `connection` (the user's calls, what leaves, time). With them `timestamps`,
  `challenge`, `isn`.
- In its stack: `flow` (the pump), `table`, `strays` (segments of no connection: `listener`, `request`), `endpoint`
  (finds the connection of a segment), `pathmtu`; `streams` is asyncio's face.
"""
