"""What the sandbox's first process does before anything else runs in it. Runs as root of the new namespaces.

- Nothing it mounts is seen outside (the mount namespace is private), and every file it makes lies on a tmpfs that
  only this namespace knows: killed at any point, it leaves nothing behind.
- /proc and /sys are mounted anew so that they show the sandbox's processes and interfaces. In some containers the
  kernel refuses that; then the old ones stay, which only looks wrong.
- resolv.conf becomes a private file with no name server: a codespace without a bridge resolves nothing. It is
  covered by a bind mount where a file is, following symbolic links; where there is none, or a link leads nowhere,
  /etc gets an overlay, because a file to mount on would have to be made on the machine itself.
- `mount -n` keeps mount(8) from making folders of its own in /run.
- nscd's and systemd-resolved's unix sockets would answer from the machine's own network, so their folders are
  covered.
- ping sockets are allowed to everyone, as on a codespace.

It then prints the word it was given and its own process number (as the machine sees it), and waits for its stdin to
end. Being the first process of its process namespace, its end is the end of everything in the sandbox.
"""

from __future__ import annotations

SCRIPT = r"""
set -e
read -r pid _ </proc/self/stat
mount -n --make-rprivate /
mount -n -t proc proc /proc 2>/dev/null || :
mount -n -t sysfs sysfs /sys 2>/dev/null || :
target=$(readlink -f /etc/resolv.conf 2>/dev/null) || target=
for folder in /run/nscd /var/run/nscd /run/systemd/resolve; do
    if [ -d "$folder" ]; then mount -n -t tmpfs -o mode=0755,size=64k netbridge "$folder"; fi
done
case $target in /run/systemd/resolve/*) : >"$target" ;; esac
mount -n -t tmpfs -o mode=0755,size=1m netbridge /tmp
echo '# The netbridge sandbox: no name server until a bridge is up.' >/tmp/resolv.conf
chmod 0644 /tmp/resolv.conf
if [ -n "$target" ] && [ -f "$target" ]; then
    mount -n --bind /tmp/resolv.conf "$target"
else
    mkdir /tmp/upper /tmp/work
    mount -n -t overlay -o lowerdir=/etc,upperdir=/tmp/upper,workdir=/tmp/work netbridge /etc
    rm -f /etc/resolv.conf
    cat /tmp/resolv.conf >/etc/resolv.conf
fi
umount -n /tmp 2>/dev/null || umount -n -l /tmp
groups=/proc/sys/net/ipv4/ping_group_range
{ echo '0 2147483647' >$groups || echo '0 0' >$groups || :; } 2>/dev/null
printf '%s-%s\n%s\n' netbridge "$1" "$pid"
while read -r _; do :; done
"""
