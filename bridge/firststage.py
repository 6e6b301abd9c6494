"""The command line that starts the agent, and the bytes that follow it on stdin.

The command is one line for whatever login shell is there (sh, bash, zsh, fish, csh): an outer ``exec sh -c '…' name
'…'`` whose two single-quoted arguments contain no single quote, no backslash, no exclamation mark and no newline,
which are all that those shells disagree about. The first argument is a POSIX script: it finds a python3 that is new
enough, and sudo where the user is not root. The second is the first stage in Python, which reads exactly the code's
bytes from stdin and runs them. stdin is given to nobody before that, so no byte of the code is lost.

Answers on stdout begin with ``NB:<nonce>:``, so that banners and what rc files print can be told from them. The
command line itself never contains that text, only its parts, so that an echo of the command is not taken for an
answer.
"""

from __future__ import annotations

import functools
import json
import secrets
import zlib
from importlib import resources

PYTHONS = "python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.14 python python2"
"""Names tried in order; the first that is new enough is used."""

SCRIPT = """
m=NB; m=$m:{nonce}:;
say() {{ printf "%s%s %s|%s" "$m" "$1" "$2" "$3" | tr -c "[:print:]" " "; echo; exit 0; }};
x=; old=; cut=;
for p in {pythons}; do
command -v "$p" >/dev/null 2>&1 || continue;
v=$("$p" -E -S -c "import sys; print(sys.version_info < (3, 8)); print(sys.version.split()[0]); print(sys.executable);
import hmac, json, resource" </dev/null 2>/dev/null); c=$?;
set -- "$1" $v;
[ $# -ge 4 ] || continue;
if [ "$2" = True ]; then [ -n "$old" ] || old=$3;
elif [ $c = 0 ]; then x=$4; break;
else [ -n "$cut" ] || cut=$3; fi;
done;
if [ -n "$x" ]; then :;
elif [ -n "$cut" ]; then say cut-python "$cut";
elif [ -n "$old" ]; then say old-python "$old";
else say no-python; fi;
s=;
if [ "$(id -u)" = 0 ]; then :; else
command -v sudo >/dev/null 2>&1 || say no-sudo "$(id -un)";
e=$(LC_ALL=C sudo -n true </dev/null 2>&1) || say sudo-refused "$(id -un)" "$e";
s=$1;
fi;
exec "$x" -I -S -B -c "$1" {size} "$m" "$SSH_CONNECTION" "$s"
"""

STAGE = (
    "import os,sys,zlib,json;"
    "os.set_blocking(0,True);"
    "f=open(0,\"rb\",0,closefd=False);"
    "n=int(sys.argv[1]);b=bytearray();"
    "[b.extend(k) for k in iter(lambda:f.read(n-len(b)),b\"\")];"
    "m=json.loads(zlib.decompress(b));g={\"__name__\":\"loader\"};"
    "exec(compile(m[\"loader\"],\"<loader>\",\"exec\"),g);"
    "sys.exit(g[\"run\"](m,sys.argv[2:]))"
)


@functools.cache
def agent_code() -> bytes:
    """The agent's modules: zlib-compressed JSON, module name → source, "" for the package itself."""
    package = resources.files(__package__) / "agent"
    modules = {
        entry.name.removesuffix(".py").replace("__init__", ""): entry.read_text("utf-8")
        for entry in package.iterdir()
        if entry.name.endswith(".py")
    }
    return zlib.compress(json.dumps(modules).encode(), 9)


def new_nonce() -> str:
    """16 hexadecimal digits that no banner contains."""
    return secrets.token_hex(8)


def command(nonce: str) -> str:
    """The command line for one start."""
    script = SCRIPT.format(nonce=nonce, pythons=PYTHONS, size=len(agent_code()))
    return f"exec sh -c '{' '.join(script.split(chr(10))).strip()}' netbridge '{STAGE}'"
