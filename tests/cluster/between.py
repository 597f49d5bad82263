"""What stands between a machine of the real cluster and its remote: a `git` that loses, delays and doubles.

The product starts `git` by that name, found on PATH. A machine's `bin/git` is a link: to the real program as
a rule, and to this script while a fault is on, so nothing is paid for it otherwise. The script reads
`<machine>/fault` (`NAME SECONDS`) at each start, lets everything pass that does not talk to the remote, and
notes in `<machine>/hits` what it did to which command. What it does is what a line can do:

    request-lost    nothing reaches the remote; the connection ends
    reply-lost      the remote does it; the connection ends before the answer
    push-delayed    the connection ends; the push is applied seconds later, its sender dead or not
    duplicated      the push arrives, and arrives again later
    partition-out, partition-in, partition   the line is dead: no request, no answer, neither, and no end of
                    the connection until the fault is over
    slow-node       everything takes seconds longer
    remote-down, flapping   refused at once, for a long time or again and again
"""

from __future__ import annotations

import shutil
from pathlib import Path

_SCRIPT = """#!/bin/sh
node={node}; git={git}
read -r fault seconds < $node/fault 2> /dev/null || exec $git "$@"
step=
for word; do case "$word" in receive-pack|push|ls-remote|fetch) step=$word; break;; esac; done
test -n "$step" || exec $git "$@"
hit() {{ echo "$fault $step" >> $node/hits; }}
cut() {{ echo "fatal: the connection was cut" >&2; exit 128; }}
over() {{ n=0; while [ -e $node/fault ] && [ $n -lt 500 ]; do sleep 0.1; n=$((n+1)); done; }}
later() {{
  # Its own session: it outlives its sender. The sender's environment marks it as of this machine.
  if [ $step = receive-pack ]; then
    cat > $node/late.$$
    (setsid sh -c 'sleep '$seconds'; "$@" < '$node/late.$$'; rm -f '$node/late.$$ sh $git "$@" \\
      > /dev/null 2>&1 < /dev/null &)
  else
    (setsid sh -c 'sleep '$seconds'; exec "$@"' sh $git "$@" > /dev/null 2>&1 < /dev/null &)
  fi
}}
case $fault in
request-lost|remote-down|flapping) hit; cut;;
reply-lost) hit; $git "$@" > /dev/null 2>&1; cut;;
push-delayed) case $step in receive-pack|push) hit; later "$@"; cut;; *) exec $git "$@";; esac;;
duplicated) case $step in
  receive-pack) hit; cat > $node/twice.$$; $git "$@" < $node/twice.$$; code=$?
    mv $node/twice.$$ $node/again.$$; later "$@" < $node/again.$$; rm -f $node/again.$$; exit $code;;
  push) hit; $git "$@"; code=$?; later "$@"; exit $code;;
  *) exec $git "$@";; esac;;
partition|partition-out) hit; over; cut;;
partition-in) hit; $git "$@" > /dev/null 2>&1; over; cut;;
slow-node) hit; sleep $seconds; exec $git "$@";;
*) exec $git "$@";;
esac
"""


def install(folder: Path) -> None:
    """Puts the script and the link into a machine's folder."""
    git = shutil.which("git")
    assert git is not None
    script = folder / "git-between"
    script.write_text(_SCRIPT.format(node=folder, git=git))
    script.chmod(0o755)
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "git-real").unlink(missing_ok=True)
    (folder / "git-real").symlink_to(git)
    _link(folder, "git-real")


def put(folder: Path, fault: str, seconds: float = 0.0) -> None:
    """Lets a fault stand between from now on."""
    temporary = folder / "fault.new"
    temporary.write_text(f"{fault} {seconds:g}\n")
    temporary.rename(folder / "fault")
    _link(folder, "git-between")


def remove(folder: Path) -> None:
    """Nothing stands between any more."""
    (folder / "fault").unlink(missing_ok=True)
    _link(folder, "git-real")


def hits(folder: Path) -> list[tuple[str, str]]:
    """Returns (fault, command) of everything that was struck."""
    try:
        lines = (folder / "hits").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(words[0], words[1]) for line in lines if len(words := line.split()) == 2]


def _link(folder: Path, to: str) -> None:
    temporary = folder / "bin" / "git.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder / to)
    temporary.rename(folder / "bin" / "git")
