"""What both hosts are asked. Names say what it is about; the kernel knows the answers."""

OPENED = """
listen
< S 0
< A 1 1
"""

SCRIPTS: dict[str, str] = {}


def script(name: str, text: str) -> None:
    """Note one."""
    assert name not in SCRIPTS
    SCRIPTS[name] = text


def opened(name: str, text: str) -> None:
    """Note one that begins with a handshake."""
    script(name, OPENED + text)


# -- opening

script("handshake, passive", OPENED)
script("handshake, active", "connect\n< SA 0 1")
script("SYN offers everything", "listen\n< S 0 mss=1300 wscale=7 sackok\n< A 1 1\n< A 1001 1 len=100\nwrite 100")
script("SYN offers nothing", "listen\n< S 0 mss=536\n< A 1 1\nwrite 1200")
script("nobody listens", "pause\n< S 0\n< S 0 len=10\n< SF 0")
script("stray ACK", "pause\n< A 5 7\n< PA 5 7 len=10\n< FA 5 7")
script("stray segments without ACK", "pause\n< P 5 len=10\n< F 5\n< P 0")
script("stray RST", "pause\n< R 5\n< RA 5 7")
script("stray SYN-ACK", "pause\n< SA 0 7")
script("ACK to a listener", "listen\n< A 5 7\n< A 5 7 len=3")
script("RST to a listener", "listen\n< R 0\n< RA 0 9\n< S 0\n< A 1 1")
script("SYN-ACK to a listener", "listen\n< SA 0 9")
script("FIN to a listener", "listen\n< F 0\n< FA 0 9")
script("SYN with RST to a listener", "listen\n< SR 0")
script("SYN with data", "listen\n< S 0 len=5\n< A 1 1\n< PA 1 1 len=5")
script("SYN sent again", "listen\n< S 0\n< S 0\n< A 1 1")
script("SYN-RECEIVED: wrong ACK", "listen\n< S 0\n< A 1 9\n< A 1 1")
script("SYN-RECEIVED: old ACK", "listen\n< S 0\n< A 1 0\n< A 1 1")
script("SYN-RECEIVED: RST", "listen\n< S 0\n< R 1\n< A 1 1")
script("SYN-RECEIVED: RST beside the point", "listen\n< S 0\n< R 100\n< A 1 1")
script("SYN-RECEIVED: another SYN", "listen\n< S 0\n< S 1000\n< A 1 1")
script("SYN-RECEIVED: data with the ACK", "listen\n< S 0\n< PA 1 1 len=10\n< PA 11 1 len=5")
script("SYN-RECEIVED: FIN with the ACK", "listen\n< S 0\n< FA 1 1 len=10\nclose\n< A 12 2")
script("SYN-RECEIVED: data without ACK", "listen\n< S 0\n< P 1 len=10\n< A 1 1")
script("SYN-RECEIVED: beyond the window", "listen\n< S 0\n< A 200000 1\n< A 1 1")
script("SYN-RECEIVED: early data first", "listen\n< S 0\n< PA 11 1 len=5\n< PA 1 1 len=10")
script("SYN-SENT: RST", "connect\n< RA 0 1")
script("SYN-SENT: RST without ACK", "connect\n< R 0\n< SA 0 1")
script("SYN-SENT: RST with the wrong ACK", "connect\n< RA 0 7\n< SA 0 1")
script("SYN-SENT: ACK alone", "connect\n< A 0 1\n< SA 0 1")
script("SYN-SENT: wrong ACK", "connect\n< A 0 9\n< SA 0 1")
script("SYN-SENT: SYN-ACK with the wrong ACK", "connect\n< SA 0 9\n< SA 0 1")
script("SYN-SENT: FIN", "connect\n< F 0\n< SA 0 1")
script("SYN-SENT: data", "connect\n< P 0 len=10\n< SA 0 1")
script("SYN-SENT: SYN-ACK with data", "connect\n< SA 0 1 len=10\n< PA 1 1 len=10")
script("SYN-SENT: SYN-ACK with FIN", "connect\n< SFA 0 1\n< FA 1 1")
script("SYN-SENT: closed", "connect\nclose\n< SA 0 1")
script("simultaneous open", "connect\n< S 0\n< SA 0 1\nwrite 10")
script("simultaneous open, plain ACK", "connect\n< S 0\n< A 1 1\nwrite 10")
script("SYN-ACK sent again", "connect\n< SA 0 1\n< SA 0 1\nwrite 5")

# -- established: data

opened("data in order", "< PA 1 1 len=100\n< PA 101 1 len=900\n< A 1001 1 len=1")
opened("data out of order", "< A 101 1 len=100\n< A 1 1 len=100\n< A 201 1 len=10")
opened("three holes filled backwards", "< A 301 1 len=100\n< A 201 1 len=50\n< A 101 1 len=50\n< A 151 1 len=50\n"
       "< A 251 1 len=50\n< A 1 1 len=100")
opened("data sent again", "< A 1 1 len=100\n< A 1 1 len=100\n< A 51 1 len=50\n< A 101 1 len=10")
opened("data partly old", "< A 1 1 len=100\n< A 51 1 len=100 fill=x\n< A 151 1 len=1")
opened("early data overlaps, first kept", "< A 101 1 len=100 fill=a\n< A 151 1 len=100 fill=b\n< A 1 1 len=100")
opened("early data overlapped from below", "< A 151 1 len=100 fill=a\n< A 101 1 len=100 fill=b\n< A 1 1 len=100")
opened("hole filled with more than it takes", "< A 101 1 len=100 fill=a\n< A 1 1 len=150 fill=b\n< A 201 1 len=1")
opened("data beyond the window", "< A 200001 1 len=100\n< A 1 1 len=10")
opened("data without ACK", "< P 1 len=10\n< PA 1 1 len=10")
opened("no flags at all", "< P 1\n< PA 1 1 len=3")
opened("urgent data, in line", "< UA 1 1 len=10\n< A 11 1 len=5")
opened("old ACK with data", "write 100\n< A 1 101\n< PA 1 50 len=10\n< PA 11 101 len=10")
opened("ACK of what was not sent", "< A 1 500\n< PA 1 500 len=10\n< PA 1 1 len=10")
opened("ACK far behind", "write 10\n< A 1 11\n< PA 1 -100000 len=10\n< PA 1 11 len=10")
opened("keepalive", "< A 1 1 len=10\n< A 10 1\n< A 10 1 len=1")
opened("old sequence, no data", "< A 1 1 len=100\n< A 50 1\n< A 1 1")
opened("future sequence, no data", "< A 50 1\n< A 70000 1\n< A 1 1 len=5")
script("SACK of early data", "listen\n< S 0 sackok\n< A 1 1\n< A 101 1 len=100\n< A 301 1 len=100\n< A 501 1 len=100\n"
       "< A 1 1 len=100\n< A 201 1 len=100\n< A 401 1 len=100")
script("SACK, five holes", "listen\n< S 0 sackok\n< A 1 1\n< A 101 1 len=10\n< A 201 1 len=10\n< A 301 1 len=10\n"
       "< A 401 1 len=10\n< A 501 1 len=10\n< A 1 1 len=600")
script("D-SACK of old data", "listen\n< S 0 sackok\n< A 1 1\n< A 1 1 len=100\n< A 1 1 len=100\n< A 51 1 len=100")
script("D-SACK of early data", "listen\n< S 0 sackok\n< A 1 1\n< A 101 1 len=100\n< A 101 1 len=100\n< A 151 1 len=100")

# -- established: sending

opened("writes", "write 10\n< A 1 11\nwrite 1000\n< A 1 1011\nwrite 2500\n< A 1 3511")
opened("one ACK for several", "write 1000\nwrite 1000\nwrite 10\n< A 1 2011")
opened("ACK in the midst", "write 3000\n< A 1 1500\n< A 1 3001")
script("small window", "listen\n< S 0 win=1500\n< A 1 1 win=1500\nwrite 3000\n< A 1 1001 win=1500\n"
       "< A 1 1501 win=3000\n< A 1 3001 win=3000")
script("closed window", "listen\n< S 0 win=1000\n< A 1 1 win=1000\nwrite 2000\n< A 1 1001 win=0\n< A 1 1001 win=4000\n"
       "< A 1 2001 win=4000")
opened("window closes and opens without data", "< A 1 1 win=0\nwrite 100\n< A 1 1 win=1000\n< A 1 101 win=1000")
opened("window shrinks below what is in flight", "write 3000\n< A 1 1001 win=500\n< A 1 3001 win=3000\nwrite 100")
opened("closed window still hears", "< A 1 1 win=0\n< PA 1 1 len=10 win=0\n< FA 11 1 win=0\nclose\n"
       "< A 12 1 win=100\n< A 12 2")
opened("initial window", "write 20000\n< A 1 10001\n< A 1 20001")
opened("three duplicates", "write 8000\n< A 1 1001\n< A 1 1001\n< A 1 1001\n< A 1 1001\n< A 1 8001")
script("window scaling", "listen\n< S 0 wscale=7\n< A 1 1 win=10\nwrite 3000\n< A 1 1001 win=100\n< A 1 3001 win=100")

# -- closing

opened("they close first", "< FA 1 1\nclose\n< A 2 2")
opened("they close first, we write on", "< FA 1 1\nwrite 100\n< A 2 101\nshutdown\n< A 2 102")
opened("we close first", "close\n< A 1 2\n< FA 1 2\n< FA 1 2\n< A 2 2")
opened("half-close, they write on", "shutdown\n< A 1 2\n< PA 1 2 len=100\n< FA 101 2\n< A 102 2")
opened("FIN with the ACK of ours", "close\n< FA 1 2\n< A 2 2")
opened("simultaneous close", "close\n< FA 1 1\n< A 2 2\n< A 2 2")
opened("simultaneous close with data", "write 10\nclose\n< FA 1 1 len=10\n< A 12 12\n< A 12 12")
opened("FIN with data", "< FA 1 1 len=100\nclose\n< A 102 2")
opened("FIN before its data", "< FA 101 1 len=10\n< A 1 1 len=100\nclose\n< A 112 2")
opened("FIN alone, early", "< FA 101 1\n< A 1 1 len=100\nshutdown\n< A 102 2")
opened("FIN sent again", "< FA 1 1\n< FA 1 1\n< A 2 1\nclose\n< FA 1 2\n< A 2 2")
opened("data after the FIN", "< FA 1 1\n< PA 2 1 len=10\nclose\n< A 2 2")
opened("FIN-WAIT-1: data", "shutdown\n< PA 1 1 len=10\n< A 11 2\n< FA 11 2")
opened("FIN-WAIT-1: ACK of nothing sent", "shutdown\n< A 1 9\n< A 1 2\n< FA 1 2")
opened("close with data unsent", "< A 1 1 win=0\nwrite 100\nclose\n< A 1 1 win=1000\n< A 1 102\n< FA 1 102")
opened("data after close", "close\n< A 1 2\n< PA 1 2 len=10")
opened("data on its way at close", "close\n< PA 1 1 len=10")
opened("LAST-ACK: data", "< FA 1 1\nclose\n< PA 2 1 len=5\n< A 2 2")
opened("LAST-ACK: old ACK", "< FA 1 1\nclose\n< A 2 1\n< A 2 2\n< A 2 2")
opened("TIME-WAIT: old data", "< PA 1 1 len=10\nclose\n< FA 11 2\n< PA 1 2 len=10\n< A 12 2")
opened("TIME-WAIT: a new SYN", "close\n< FA 1 2\n< S 5000\n< A 5001 1\n< PA 5001 1 len=10")
opened("TIME-WAIT: an old SYN", "close\n< FA 1 2\n< S -10\n< A 2 2")
opened("TIME-WAIT: RST", "close\n< FA 1 2\n< R 2\n< A 2 2")
opened("TIME-WAIT: FIN again", "close\n< FA 1 2\n< FA 1 2\n< FA 1 1")
opened("TIME-WAIT: new data", "close\n< FA 1 2\n< PA 2 2 len=10")
opened("TIME-WAIT: ACK of what was not sent", "close\n< FA 1 2\n< A 2 50")
opened("after the end", "< FA 1 1\nclose\n< A 2 2\n< A 2 2\n< PA 2 2 len=10\n< FA 1 2")

# -- resets and SYNs

opened("RST", "< R 1")
opened("RST with ACK", "< RA 1 1")
opened("RST with data", "< R 1 len=10")
opened("RST in the window", "< R 100\n< PA 1 1 len=10")
opened("RST beyond the window", "< R 200000\n< PA 1 1 len=10")
opened("RST just behind", "< PA 1 1 len=10\n< R 10\n< PA 11 1 len=10")
opened("RST after data", "< PA 1 1 len=10\n< R 11")
opened("RST while data waits early", "< A 101 1 len=10\n< R 111\n< R 1")
opened("RST with SYN", "< SR 1\n< PA 1 1 len=1")
opened("SYN", "< S 1\n< PA 1 1 len=10")
opened("SYN in the window", "< S 100\n< PA 1 1 len=10")
opened("SYN beyond the window", "< S 200000\n< PA 1 1 len=10")
opened("SYN that began it, again", "< S 0\n< PA 1 1 len=10")
opened("SYN-ACK", "< SA 0 1\n< SA 1 1\n< PA 1 1 len=10")
opened("SYN with FIN", "< SF 1\n< PA 1 1 len=10")
opened("everything at once", "< SFRPAU 1 1 len=10")
opened("Christmas without RST", "< SFPAU 1 1 len=10\n< PA 1 1 len=5")
opened("FIN without ACK", "< F 1\n< FA 1 1")
opened("abort", "abort\n< A 1 1\n< PA 1 1 len=10")
opened("abort with data in flight", "write 100\nabort\n< A 1 101")
opened("abort after their FIN", "< FA 1 1\nabort\n< A 2 1")
opened("abort after our FIN", "shutdown\n< A 1 2\nabort\n< PA 1 2 len=1")
opened("FIN-WAIT-1: RST", "shutdown\n< R 1\n< A 1 2")
opened("FIN-WAIT-2: RST", "shutdown\n< A 1 2\n< R 1\n< FA 1 2")
opened("FIN-WAIT-2: SYN", "shutdown\n< A 1 2\n< S 1\n< FA 1 2")
opened("CLOSE-WAIT: RST", "< FA 1 1\n< R 2\nwrite 10")
opened("CLOSE-WAIT: RST beside the point", "< FA 1 1\n< R 1\n< R 3\nwrite 10")
opened("CLOSE-WAIT: SYN", "< FA 1 1\n< S 2\nwrite 10")
opened("CLOSING: RST", "shutdown\n< FA 1 1\n< R 2\n< A 2 2")
opened("CLOSING: FIN again", "shutdown\n< FA 1 1\n< FA 1 1\n< A 2 2")
opened("LAST-ACK: RST", "< FA 1 1\nclose\n< R 2\n< A 2 2")
opened("LAST-ACK: SYN", "< FA 1 1\nclose\n< S 2\n< A 2 2")

# -- a reader that pauses

opened("paused reader", "pause\n< PA 1 1 len=1000\n< PA 1001 1 len=1000\nread\n< PA 2001 1 len=10")
opened("paused reader, then FIN", "pause\n< FA 1 1 len=1000\nread\nclose\n< A 1002 2")
opened("paused reader, then RST", "pause\n< PA 1 1 len=1000\n< R 1001\nread")
opened("closed before it was read", "pause\n< PA 1 1 len=1000\nclose")

# -- timestamps and ECN

STAMPED = "listen\n< S 0 ts=1000\n< A 1 1 ts=1001\n"
MARKED = "listen\n< SEC 0\n< A 1 1\n"

script("timestamps: echoed", STAMPED + "< PA 1 1 len=10 ts=1002\n< A 21 1 len=10 ts=1003\n< A 31 1 len=10 ts=1005\n"
       "< A 11 1 len=10 ts=1004\nwrite 2000\n< A 41 2001 ts=1006")
script("timestamps: data partly old", STAMPED + "< PA 1 1 len=100 ts=1002\n< PA 51 1 len=100 ts=1003\n"
       "< A 151 1 ts=1004")
script("timestamps: an old one (PAWS)", STAMPED + "< PA 1 1 len=10 ts=900\n< PA 1 1 len=10 ts=1002\n< FA 11 1 ts=1001\n"
       "< FA 11 1 ts=1002")
script("timestamps: a reset with an old one", STAMPED + "< R 1 ts=900")
script("timestamps: a SYN with an old one", STAMPED + "< S 1 ts=900\n< SA 0 1 ts=900")
script("timestamps: an old one beyond the window", STAMPED + "< PA 200001 1 len=10 ts=900\n< PA 1 1 len=10 ts=1002")
script("timestamps: a wrong echo's ACK", STAMPED + "write 10\n< A 1 50 ts=1002\n< A 1 11 ts=1003")
script("timestamps: forgotten", STAMPED + "< PA 1 1 len=10\n< R 1")
script("timestamps: not offered, then sent", OPENED + "< PA 1 1 len=10 ts=5\n< PA 11 1 len=10")
script("timestamps: active", "connect\n< SA 0 1 ts=1000\nwrite 10\n< A 1 11 ts=1001\n< FA 1 11 ts=1002\nclose\n"
       "< A 2 12 ts=1003")
script("timestamps: active, declined", "connect\n< SA 0 1\nwrite 10\n< PA 1 11 len=5")
script("timestamps and SACK", "listen\n< S 0 ts=1000 sackok wscale=7\n< A 1 1 ts=1001\n< A 101 1 len=10 ts=1002\n"
       "< A 201 1 len=10 ts=1003\n< A 301 1 len=10 ts=1004\n< A 401 1 len=10 ts=1005\n< A 201 1 len=10 ts=1006\n"
       "< A 1 1 len=500 ts=1007\n< A 1 1 len=10 ts=1008")
script("TIME-WAIT with timestamps: a SYN with a newer one", STAMPED + "close\n< FA 1 2 ts=1002\n< S -10 ts=1003\n"
       "< A -9 1 ts=1004")
script("TIME-WAIT with timestamps: a SYN with the same", STAMPED + "close\n< FA 1 2 ts=1002\n< S -10 ts=1002")
script("TIME-WAIT with timestamps: a SYN with an older one", STAMPED + "close\n< FA 1 2 ts=1002\n< S 500 ts=900")
script("TIME-WAIT with timestamps: FIN with an old one", STAMPED + "close\n< FA 1 2 ts=1002\n< FA 1 2 ts=900\n"
       "< FA 1 2 ts=1003")
script("ECN: agreed", MARKED + "write 3000\n< A 1 1001\n< A 1 3001")
script("ECN: a mark is echoed until CWR", MARKED + "< PA 1 1 len=10 ce\n< PA 11 1 len=10\nwrite 10\n"
       "< PAC 21 11 len=10\n"
       "< PA 31 11 len=10")
script("ECN: an echo is answered by CWR, once", MARKED + "write 2000\n< AE 1 1001\n< AE 1 2001\nwrite 1000\n"
       "write 100\n< A 1 3101")
script("ECN: not asked for", "listen\n< S 0\n< A 1 1\n< PA 1 1 len=10 ce\nwrite 10")
script("ECN: asked for wrongly", "listen\n< SE 0\n< A 1 1\n< PA 1 1 len=10 ce\nwrite 10")
script("ECN: a mark on early data", MARKED + "< PA 11 1 len=10 ce\n< PA 1 1 len=10")
script("ECN: FIN", MARKED + "< FA 1 1 ce\nclose\n< A 2 2")

# -- what a hunt found, and was mended (hunt.py)

opened("the peer takes back its window", "write 10\n< A 1 7 win=0\n< PA 101 7 len=1\nabort")
script("early data behind the FIN", "listen\n< S 0 sackok\n< A 1 1\n< A 64 1 len=100\n< FA 1 1\n< PA 0 1 len=1")
script("ECN: an echo of nothing", "listen\n< SEC 0\n< EA 1 1\nwrite 1000")
script("ECN: a mark behind the FIN", MARKED + "write 10\n< FA 1 11\n< A 2 11 len=1 ce\n< CA 2 11 len=100")
opened("a window far smaller than the SYN's", "< A 1 1 win=1\nwrite 10\n< A 1 1 win=10")

# -- where the two part (accepted.py)

script("SYN-RECEIVED: wrong ACK beyond the window", "listen\n< S 0\n< A 200001 9\n< A 1 1")
script("SYN-RECEIVED: SYN-ACK with a wrong ACK", "listen\n< S 0\n< SA 0 9\n< A 1 1")
script("SYN-RECEIVED: data from long ago", "listen\n< S 0 sackok\n< PA -500 1 len=10\n< A 1 1")
script("SYN-RECEIVED: SYN-ACK with FIN", "connect\n< S 0\n< SFA 0 1")
script("simultaneous open, then closed", "connect\n< S 0\nclose\n< A 1 1\n< A 1 2")
script("SYN-SENT: shutdown", "connect\nshutdown\n< SA 0 1")
opened("no ACK beyond the window", "< P 200001 len=10\n< PA 1 1 len=10")
opened("FIN-WAIT-1: ACK on an old segment", "< PA 1 1 len=100\nshutdown\n< A 51 2 len=20\n< A 101 2")
opened("ACK from before the ISN", "< A 1 0\n< PA 1 1 len=10")
opened("data across the FIN", "< FA 1 1\n< PA 1 1 len=100")
opened("FIN amid data", "< A 11 1 len=100\n< FA 1 1 len=50")
opened("LAST-ACK: abort", "< FA 1 1\nshutdown\nabort")
opened("TIME-WAIT: RST beside the point", "close\n< FA 1 2\n< R 50")
script("simultaneous open: SYN again", "connect\n< S 0\n< S 0\n< A 1 1")
opened("RST and SYN just behind", "< PA 1 1 len=10\n< SR 10\n< PA 11 1 len=5")
script("TIME-WAIT: a new SYN, nobody listens", "connect\n< SA 0 1\nclose\n< FA 1 2\n< S 5000")
script("SACK of a FIN", "listen\n< S 0 sackok\n< A 1 1\n< FA 101 1 len=10\n< A 1 1 len=100")
script("RST at the end of early data", "listen\n< S 0 sackok\n< A 1 1\n< A 101 1 len=10\n< R 111")
script("TS.Recent beside an old ACK", STAMPED + "write 100\n< A 1 101 ts=1002\n< PA 1 51 len=10 ts=1003")
script("old ACK with an old timestamp", STAMPED + "< A 1 1 ts=900")
script("RST with an old timestamp in a handshake", "listen\n< S 0 ts=1000\n< R 1 ts=900\n< A 1 1 ts=1001")
script("ECN: CWR with an old ACK", MARKED + "write 10\nshutdown\n< A 101 12 len=10 ce\n< CA 111 3 len=1")
opened("reset told by a write", "pause\n< RA 1 1\n< S 500\n< A 501 1\nwrite 10")
opened("RST before the reader came, and a new connection", "pause\n< A 1 1 len=100\n< R 101\n< S 500\nread")
opened("wild ACK on what is not read", "pause\nwrite 10\n< PA 1 -500000000 len=1")
script("FIN that waited, and early data", "connect\n< S 0\nshutdown\n< PA 31 1 len=1000")
opened("RST before the reader came, after a FIN", "pause\n< FA 1 1 len=10\n< R 12\nread")
script("ECN: TIME-WAIT", MARKED + "< PA 1 1 len=10 ce\nclose\n< FA 11 2\n< A 5 2")
script("TS.Recent of an old ACK beside a reset",
       STAMPED + "write 100\n< A 1 101 ts=1003\n< FA 1 101 ts=1004\n< A 2 69 ts=1019\n< RA 1002 101 ts=1019")
script("ECN: CWR without data", MARKED + "< PA 1 1 len=10 ce\n< CA 200 1\n< S 300")
script("a window taken back by little", "listen\n< S 0 wscale=0\n< A 1 1\nwrite 1000\n< A 2011 758 len=100 win=0")
script("FIN that waited, and data in its turn", "connect\n< S 0\nshutdown\n< A 1 1 len=100")
script("a window taken back by less than the peer's scale",
       "listen\n< S 0 wscale=14\n< A 1 1\nwrite 2500\n< PA 1242 812 len=10 win=0")
opened("FIN with a wild ACK", "write 10\n< FA 1 -500000000")
opened("window of an old segment", "< A 1 1 len=1000 win=0\nwrite 10\n< A 719 1")
opened("window of a segment overtaken", "< A 62 1\nwrite 10\n< A 2 11 win=0\nwrite 1000")
script("SYN again without ECN", "listen\n< SEC 0\n< S 0\n< A 1 1\nwrite 10")
script("SYN that was marked", "listen\n< SEC 0 ce\n< A 1 1")
script("ECN: mark on an early FIN", MARKED + "< FA 4 1 ce")
script("ACK of the ISN after an active open", "connect\n< SA 0 1\n< PA 101 0")
script("TIME-WAIT: abort", "connect\n< SA 0 1\nshutdown\n< FA 1 2\nabort")
opened("FIN amid data, paused", "< A 38 1 len=1000\npause\n< FA 1 1 len=1000")
opened("data with a wild ACK", "write 10\n< PA 1 -500000000 len=1")
opened("CLOSING: abort with data unread", "shutdown\npause\n< FA 1 1 len=100\nabort")
script("timestamp of a tick ago", "listen\n< S 0 ts=1000\n< A 1 1 ts=1000\nwrite 10\n< A 1 11 len=1 ts=999")
script("timestamp of a tick ago, early data",
       "connect\n< SA 0 1 sackok ts=1000\nwrite 10\n< UA 1002 11 len=1 ts=999")
script("ECN: old ACK with an old timestamp",
       "listen\n< SEC 0 ts=1000\n< A 1 1 len=1 ce ts=1001\n< A 2 1 ts=986")
script("ECN: RST at the end of early data",
       "listen\n< SEC 0 sackok\n< A 101 1 len=100 ce\n< A 202 1 len=10\n< R 212")
script("ECN: echoes after small segments", MARKED + "write 10\n< EA 1 11\nwrite 10\nwrite 10\nshutdown")
script("ECN: an echo after an ACK on an old segment", MARKED + "write 10\n< A 0 11\n< EA 201 11\nwrite 1000")
script("ECN: an echo after an ACK on a segment long ago",
       MARKED + "write 1000\nwrite 1000\n< A -135 2001\n< EA 64 2001\nwrite 10")
script("ECN: CWR with an old ACK, open", MARKED + "write 10\n< A 1 11 len=1 ce\n< CA 77 4 len=10")
script("D-SACK beside an ACK of the ISN", "listen\n< S 0 sackok\n< A 1 1 len=10\n< A 1 0 len=10")
script("early data with an ACK of the ISN", "connect\n< SA 0 1\n< A 1 1 len=100\nwrite 10\n< CA 115 len=1000\n"
       "write 1000\n< A 101 1011 len=100")
opened("FIN amid data, with the ACK of ours", "< PA 103 1 len=1000\nshutdown\n< FA 1 2 len=1000")
opened("FIN amid data, after a wild one",
       "write 1000\n< PA 156 1001 len=1000\n< FA 209\n< PA 1 1001 len=10\n< FA 11 1001 len=1000")
opened("data beyond a FIN that came early", "< FA 101 1 len=100\n< PA 201 1 len=10\n< A 1 1 len=100")
script("FIN that waits for the window of an old segment", "connect\n< S 0\n< PA 253 1 win=0\n< A -59 1 len=1000\n"
       "close\n< CA 311 1")
