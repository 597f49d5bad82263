"""Scenario profiles: how often what is asked and what goes wrong, to make rare interleavings likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.simulation.faults import FAULTS

_COMMANDS = (
    ("order", 20.0), ("build", 6.0), ("cancel", 5.0), ("retry", 4.0), ("send", 12.0), ("read", 10.0),
    ("reply", 6.0), ("look", 3.0), ("configure", 2.0), ("break-lock", 2.0), ("promote", 14.0),
)  # fmt: skip

PROMOTING = (
    ("campaign", 7.0), ("tend", 6.0), ("promote-build", 26.0), ("roll-back", 7.0), ("verify", 7.0),
    ("revoke", 0.7), ("new-policy", 1.3), ("outside", 1.0), ("cancel", 1.5), ("order", 0.5), ("look", 0.5),
)  # fmt: skip
#: Everything that may go wrong, and seldom for hours: a promotion takes several builders.
PROMOTING_FAULTS = {
    "kill": 8.0, "stop": 3.0, "leader-killed": 2.0, "leader-stopped": 2.0, "power-loss": 4.0, "suspend": 1.0,
    "partition": 2.0, "slow-node": 0.5, "remote-down": 0.3, "refusal": 0.5, "outbox-full": 0.5,
    "clone-full": 0.5, "clone-removed": 0.5, "clock-step": 0.5, "store-restored": 0.4, "store-cloned": 0.3,
    "remote-restored": 0.4, "server-power-loss": 0.3, "by-hand": 1.0, "mixed-versions": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Weights and times, in seconds. `only` are the faults with their weights, if not all as registered;
    `steps` those at which an ambush strikes, `patience` how many of them it may let pass. An agent looks
    round the more seldom the longer nothing has happened, at least every `longest_pause`. `prunes` is how
    often somebody prunes when somebody asks for something. `promotes`: there is a policy, and builders sign.
    """

    does: str
    commands: Sequence[tuple[str, float]] = _COMMANDS
    burst: Sequence[int] = (1, 1, 1, 2, 4)
    gap: float = 8.0
    idle: float = 20_000.0
    poll: float = 90.0
    longest_pause: float = 3600.0
    trouble: float = 60.0
    weather: float = 0.5
    points: float = 1.0
    patience: int = 120
    prunes: float = 0.05
    promotes: bool = False
    steps: frozenset[str] = frozenset()
    only: Mapping[str, float] = field(default_factory=dict)

    def faults(self, enabled: Sequence[str]) -> list[tuple[str, float]]:
        """Returns what may go wrong by its weight, of the faults that a plan has on."""
        weights = [(name, self.only.get(name, 0.0) if self.only else FAULTS[name].weight) for name in enabled]
        return [(name, weight) for name, weight in weights if weight > 0]


PROFILES: dict[str, Profile] = {
    "everything": Profile("every command and every fault"),
    "two-leaders": Profile(
        "bursts on few machines, leaders stopped and killed in the middle",
        commands=(("order", 10.0), ("send", 10.0), ("cancel", 6.0), ("promote", 3.0), ("build", 3.0)),
        burst=(2, 4, 6),
        trouble=15.0,
        patience=25,
        only={"leader-stopped": 6, "leader-killed": 3, "kill": 2, "stop": 4, "refusal": 1},
    ),
    "rivals": Profile(
        "rivals for the same locks on one machine; leaders stopped in the middle, pushes late",
        commands=(("promote", 10.0), ("build", 8.0), ("order", 4.0), ("break-lock", 3.0)),
        burst=(4, 6, 8),
        idle=60.0,
        trouble=6.0,
        weather=0.9,
        points=4.0,
        patience=12,
        steps=frozenset({"look", "begin_attempt", "push", "answer_unpushed", "settle", "fetch"}),
        only={"leader-stopped": 6, "leader-killed": 4, "kill": 3, "stop": 3, "refusal": 1},
    ),
    "odd-disks": Profile(
        "disks restored and copied, power lost",
        burst=(1, 2, 4),
        trouble=30.0,
        only={"store-restored": 3, "store-cloned": 2, "power-loss": 3, "kill": 2, "leader-stopped": 2},
    ),
    "copies": Profile(
        "machines are copied, and both work under leases",
        commands=(("promote", 20.0), ("build", 4.0), ("send", 2.0)),
        burst=(1, 2, 4),
        trouble=30.0,
        idle=500.0,
        only={"store-cloned": 5, "kill": 2, "stop": 1, "leader-stopped": 1, "partition": 1},
    ),
    "rewinds": Profile(
        "the remote goes back, and comes again",
        trouble=120.0,
        only={"remote-restored": 3, "kill": 1, "partition": 1, "by-hand": 1},
    ),
    "restores": Profile(
        "the remote goes back every few seconds, while answers get lost and leases are worked under",
        commands=(("promote", 20.0), ("build", 6.0), ("order", 4.0), ("send", 2.0)),
        trouble=8.0,
        weather=0.9,
        points=5.0,
        only={"remote-restored": 5, "kill": 1},
    ),
    "takeover": Profile(
        "holders and waiters of leases die, stop and lose their line",
        commands=(("promote", 30.0), ("send", 2.0), ("break-lock", 2.0)),
        burst=(1, 2, 3),
        trouble=25.0,
        idle=500.0,
        patience=60,
        steps=frozenset({"sleep", "beat", "fetch", "pulse", "push", "beats"}),
        only={
            "kill": 3,
            "stop": 5,
            "waiter-dies": 3,
            "partition": 4,
            "slow-node": 1,
            "power-loss": 1,
            "clock-step": 2,
        },
    ),
    "losses": Profile(
        "builds die and are rescued",
        commands=(("order", 20.0), ("build", 8.0), ("cancel", 6.0), ("retry", 3.0), ("break-lock", 1.0)),
        trouble=40.0,
        idle=1000.0,
        patience=60,
        only={"kill": 6, "stop": 5, "partition": 4, "power-loss": 3, "remote-down": 2},
    ),
    "mail": Profile(
        "messages in bulk, read, acknowledged and answered",
        commands=(("send", 14.0), ("read", 12.0), ("reply", 8.0)),
        burst=(2, 4, 6),
        idle=200.0,
        poll=600.0,
    ),
    "months": Profile(
        "weeks between one bustle and the next: what is held, queued and remembered grows old",
        burst=(1, 2, 4),
        idle=5_000_000.0,
        trouble=3600.0,
        longest_pause=86_400.0,
    ),
    "hands": Profile(
        "commits by hand at every turn",
        trouble=20.0,
        only={"by-hand": 8, "kill": 1, "clone-removed": 1},
    ),
    "reports": Profile(
        "builds die around their reports, and people prune; machines lose power",
        commands=(("build", 12.0), ("order", 8.0), ("retry", 3.0), ("cancel", 1.0)),
        burst=(1, 1, 2),
        trouble=15.0,
        idle=500.0,
        patience=4,
        prunes=0.7,
        steps=frozenset(
            {"journal written", "completion renamed", "completion kept", "enqueue", "reported"}
            | {"removal", "sets listed", "entries", "set removed"}
        ),
        only={"kill": 4, "power-loss": 3, "stop": 6, "partition": 1, "remote-down": 1, "outbox-full": 1},
    ),
    "promotion": Profile(
        "builds in rounds are signed, compared, promoted and rolled back; keys are revoked, policies change",
        commands=PROMOTING,
        burst=(1, 1, 1, 2),
        gap=150.0,
        idle=3000.0,
        poll=45.0,
        trouble=150.0,
        weather=0.3,
        patience=60,
        promotes=True,
        only=PROMOTING_FAULTS,
    ),
    "cheats": Profile(
        "the same, while builders, promoters and others cheat in every way that there is",
        commands=(*PROMOTING, ("promote-build", 14.0), ("cheat-somehow", 40.0)),
        burst=(1, 1, 2, 3),
        gap=100.0,
        idle=2000.0,
        poll=45.0,
        trouble=300.0,
        weather=0.2,
        patience=60,
        promotes=True,
        only=PROMOTING_FAULTS,
    ),
    "calm": Profile(
        "nothing goes wrong: what it costs", burst=(4, 6, 8), weather=0.0, idle=60.0, only={"-": 1}
    ),
}
