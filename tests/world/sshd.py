"""The SSH server of a machine, its users and keys, and the client's side of them.

Users of the codespace; all but `codespace` and `nosudo` are other names of uid 0, each with one thing wrong:

    root       everything works           codespace  an ordinary user with passwordless sudo
    nosudo     an ordinary user, no sudo  nopython   no python3 on PATH
    python36   python3 is 3.6             python27   python3 is 2.7
    notun      no /dev/net/tun, none can be made     nonetadmin  without CAP_NET_ADMIN
    noisy      its shell greets on standard output
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .addresses import CODESPACE, SSH_PORT
from .machine import Machine

USERS = {
    "codespace": 54321,
    "nosudo": 54322,
    "nopython": 0,
    "python36": 0,
    "python27": 0,
    "notun": 0,
    "nonetadmin": 0,
    "noisy": 0,
}


def find_python(version: str) -> Path | None:
    """An interpreter of this version: on PATH, or one that pyenv built."""
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser(), Path("/opt/pyenv")]
    for root in roots:
        for path in sorted(root.glob(f"versions/{version}.*/bin/python{version}")):
            return path
    found = shutil.which(f"python{version}")
    return Path(found) if found and ".pyenv/shims" not in found else None


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)


def prepare_client(home: Path) -> None:
    """Keys of the user at the laptop: the right one, and one that nobody knows."""
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    keygen(ssh / "id_ed25519")
    keygen(ssh / "wrong")


def add_users(machine: Machine) -> None:
    """Write the machine's users into its own /etc; before boot ends nobody has read it."""
    etc, homes = machine.folder / "etc", machine.folder / "homes"
    homes.mkdir()
    bin_folder = machine.folder / "bin"
    bin_folder.mkdir()
    # Everything of the usual folders but python: a PATH made of links.
    for name in ("nopython", "python36", "python27"):
        folder = bin_folder / name
        folder.mkdir()
        for source in ("/bin", "/sbin", "/usr/sbin"):
            for program in Path(source).iterdir():
                python = program.name.startswith(("python", "pypy", "pydoc", "py3"))
                if not python and not (folder / program.name).is_symlink():
                    (folder / program.name).symlink_to(program)
    for name, version in (("python36", "3.6"), ("python27", "2.7")):
        if found := find_python(version):
            (bin_folder / name / "python3").symlink_to(found)
    shells = {
        # mount namespace of its own in which /dev/net cannot be written
        "notun": 'exec unshare -m /bin/sh -c \'mount -t tmpfs -o ro none /dev/net; exec /bin/sh "$@"\' sh "$@"',
        "nonetadmin": 'exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin /bin/sh "$@"',
        "noisy": "echo 'Welcome to this machine!'; printf 'no newline at the end'; exec /bin/sh \"$@\"",
    }
    for name, script in shells.items():
        path = bin_folder / f"{name}-shell"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    passwd, shadow = (etc / "passwd").read_text().splitlines(), (etc / "shadow").read_text().splitlines()
    for name, number in USERS.items():
        home = homes / name
        home.mkdir()
        os.chown(home, number, number)
        shell = bin_folder / f"{name}-shell" if name in shells else Path("/bin/sh")
        passwd.append(f"{name}:x:{number}:{number}::{home}:{shell}")
        shadow.append(f"{name}:*:19000:0:99999:7:::")
    (etc / "passwd").write_text("\n".join(passwd) + "\n")
    (etc / "shadow").write_text("\n".join(shadow) + "\n")
    with open(etc / "group", "a") as group:
        group.writelines(f"{name}:x:{number}:\n" for name, number in USERS.items() if number)
    if (etc / "sudoers.d").is_dir():
        rule = etc / "sudoers.d/codespace"
        rule.write_text("codespace ALL=(ALL) NOPASSWD:ALL\n")
        rule.chmod(0o440)


PERSON = ("me", 54400)
"""An ordinary user of the laptop, with sudo and with SSH keys of their own."""


def add_person(machine: Machine, authorized: Path) -> None:
    """Add PERSON; their public key joins the file `authorized`. Their ~/.ssh/config alone knows the alias `mine`."""
    name, number = PERSON
    home, etc = machine.folder / name, machine.folder / "etc"
    shutil.copytree(machine.folder / "home/.ssh", home / ".ssh")
    for key in ("id_ed25519", "id_ed25519.pub"):
        (home / ".ssh" / key).unlink()
    keygen(home / ".ssh/id_ed25519")
    config = (home / ".ssh/config").read_text().replace("Host codespace", "Host codespace mine", 1)
    (home / ".ssh/config").write_text(config.replace(str(machine.folder / "home"), str(home)))
    for path in (home, *home.rglob("*")):
        os.chown(path, number, number)
    with open(authorized, "a") as keys:
        keys.write((home / ".ssh/id_ed25519.pub").read_text())
    for file, line in (
        ("passwd", f"{name}:x:{number}:{number}::{home}:/bin/sh"),
        ("group", f"{name}:x:{number}:"),
        ("shadow", f"{name}:*:19000:0:99999:7:::"),
    ):
        with open(etc / file, "a") as stream:
            stream.write(line + "\n")
    if (etc / "sudoers.d").is_dir():
        rule = etc / "sudoers.d/me"
        rule.write_text(f"{name} ALL=(ALL) NOPASSWD:ALL\n")
        rule.chmod(0o440)
    machine.run("install", "-d", "-m", "700", "-o", name, "-g", name, f"/run/user/{number}").check()


def set_home(machine: Machine, home: Path) -> None:
    """Make `home` root's home folder in the machine's own /etc/passwd: ssh looks there, not at $HOME."""
    path = machine.folder / "etc/passwd"
    lines = [line.split(":") for line in path.read_text().splitlines()]
    lines = [[*words[:5], str(home), "/bin/sh"] if words[0] == "root" else words for words in lines]
    path.write_text("\n".join(":".join(words) for words in lines) + "\n")


def serve(machine: Machine, authorized: Path, *addresses: str) -> None:
    """Start an OpenSSH server on SSH_PORT that accepts the key `authorized`."""
    folder = machine.folder / "sshd"
    folder.mkdir()
    keygen(folder / "host_key")
    shutil.copy(authorized, folder / "authorized_keys")
    configuration = [
        f"Port {SSH_PORT}",
        *(f"ListenAddress {address}" for address in addresses),
        f"HostKey {folder}/host_key",
        "PidFile none",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitTunnel yes",
        "UseDNS no",
        "MaxStartups 100",
        "PrintMotd no",
        "LogLevel INFO",
        "AcceptEnv LANG LC_*",
    ]
    for name in ("nopython", "python36", "python27"):
        configuration += [f"Match User {name}", f"  SetEnv PATH={machine.folder}/bin/{name}"]
    (folder / "config").write_text("\n".join(configuration) + "\n")
    machine.start(shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "config", log="sshd.log")


def know_host(home: Path, host_key: Path) -> None:
    """Write the codespace's host key and some host aliases into the laptop user's ~/.ssh."""
    kind, key = host_key.read_text().split()[:2]
    ssh = home / ".ssh"
    names = ",".join(f"[{address}]:{SSH_PORT}" for address in CODESPACE.values())
    (ssh / "known_hosts").write_text(f"{names} {kind} {key}\n")
    wrong = (ssh / "wrong.pub").read_text().split()
    (ssh / "known_hosts_wrong").write_text(f"{names} {wrong[0]} {wrong[1]}\n")
    here = [f"  HostName {CODESPACE[4]}", f"  Port {SSH_PORT}", "  User root"]
    (ssh / "config").write_text(
        "\n".join(
            [
                "Host codespace",
                *here,
                "Host wrongkey",
                *here,
                f"  IdentityFile {ssh}/wrong",
                "  IdentitiesOnly yes",
                "Host stranger",
                *here,
                "  UserKnownHostsFile /dev/null",
                "  GlobalKnownHostsFile /dev/null",
                "Host impostor",
                *here,
                f"  UserKnownHostsFile {ssh}/known_hosts_wrong",
                "Host proxied",
                *here,
                f"  ProxyCommand nc {CODESPACE[6]} {SSH_PORT}",
                f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}",
                "",
            ]
        )
    )
    (ssh / "config").chmod(0o600)
