"""What a simulated cluster has of promotion: keys, a policy, campaigns, and builds that may be wrong.

A *campaign* has every builder build one commit of the source. On the branch `secret` the policy counts only
what was committed to before it could be seen, so its jobs are made a round. What a build makes follows from
the commit; now and then a builder's disk is broken, and it makes something else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.coordination.rounds import read_round
from pipeline.errors import ArtifactsInvalid, PipelineError, Refused, TrustError
from pipeline.operations import secret
from pipeline.operations import site as sites
from pipeline.operations.attest import attest, attest_built
from pipeline.operations.promoted import ENTRY, FILES
from pipeline.operations.site import Site
from pipeline.operations.trust import POLICY, Trust
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.builds import Recipe
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.policy import Policy
from pipeline.records.statements import Kind, made
from tests.simulation.comparing import BRANCHES, digests_in
from tests.simulation.dice import Dice
from tests.simulation.disk import File, Folder, VirtualPath
from tests.simulation.invariants import violated
from tests.simulation.invariants.promotions import insist_on_agreement
from tests.simulation.node import Node
from tests.simulation.notary import ROOT, Notary, NotedSigner, Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulation.witness import Asked
    from tests.simulation.world import World

OPEN, SECRET = BRANCHES
#: Names of promoters in the policy. The second one is not to be trusted.
OPERATOR, TURNCOAT = "operator", "turncoat"
FOLDERS = ("policy", "promoted", "user")
_DAY = 1_700_000_000


@dataclass(frozen=True)
class Campaign:
    """One commit of the source that builders build."""

    branch: str
    commit: str


class Promoting:
    """What a run has of promotion. It is there in the profiles that promote."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.notary = Notary()
        self.root = self.notary.signer(ROOT)
        self.campaigns: list[Campaign] = []
        #: Attempts to cheat, and what they were refused as.
        self.cheats: Counter[tuple[str, str]] = Counter()
        #: How many keys of each builder were revoked; its next key has that number.
        self.lost_keys: Counter[str] = Counter()
        self.with_two_keys = {"build1"}
        self.stated: set[tuple[str, str, str, float]] = set()
        self.dismissed: list[str] = []
        self.k = 2
        self.drafted = self.in_force = 1
        self.operator_is_busy = False
        self.ledger = ""
        self._verifier = Verifier()
        self._entered: dict[tuple[str, int], str] = {}
        self._tending = Dice(world.seed, "tending")

    # ------------------------------------------------------------ the beginning

    def begin(self, ledger: str) -> None:
        """Gives every machine the first policy. `ledger` is the ledger's first commit."""
        self.ledger = ledger
        data = dump(made(Policy, self.policy(1, 0)))
        signature = self.root.sign(data, Kind.POLICY)
        for node in self.world.nodes:
            for name in FOLDERS:
                node.folders.names[name] = node.folders.synced[name] = Folder()
            self.settle(node)
            self._put(node, data, signature)

    def settle(self, node: Node) -> None:
        """Tells a machine where its policy and its promoted sets lie."""
        places: list[Any] = [VirtualPath(node, name) for name in FOLDERS]
        node.settings = replace(node.settings, policy=places[0], promoted=places[1], signing_key=None)

    def equip(self, site: Site, node: Node) -> None:
        """Gives a builder's program its key, as `runtime` does."""
        trust = self.trust(node)

        def seal(job: Job, token: str, attempt: int, report: Mapping[str, bytes]) -> dict[str, bytes]:
            return secret.seal(site, trust, self.key(node.builder), job, token, attempt, report)

        def sign(job_id: str) -> object:
            """signing-fails-no-build: whatever becomes of a signature, the build was reported."""
            try:
                return attest_built(site, trust, self.key(node.builder), job_id)
            except PipelineError as exc:
                return violated("signing-fails-no-build", f"{node.name}, {job_id}: {exc.message}")

        site.seal, site.sign = seal, sign

    # ------------------------------------------------------------ keys and policies

    def trust(self, node: Node, folder: str = "policy") -> Trust:
        """Returns what a machine believes."""
        place: Any = VirtualPath(node, folder)
        return Trust(place, self.root.public_key.text, self._verifier)

    def key(self, builder: str) -> NotedSigner:
        """Returns a builder's newest key."""
        return self.notary.signer(f"{builder}.{self.lost_keys[builder]}")

    def second_key(self, builder: str) -> NotedSigner:
        return self.notary.signer(f"{builder} second")

    def policy(self, number: int, revocations: int) -> dict[str, Any]:
        """Returns the policy that the operator wants now."""
        machines = {node.builder: node.machine for node in reversed(self.world.nodes)}
        builders = [
            {
                "name": name,
                "machine": machine,
                "keys": [each.public_key.text for each in self._keys(name)],
                "reads_keys_of": [],
            }
            for name, machine in sorted(machines.items())
        ]
        promoters = [
            {"name": name, "keys": [self.notary.signer(name).public_key.text]}
            for name in (OPERATOR, TURNCOAT)
        ]
        return {
            "kind": "policy",
            "format": 1,
            "ledger": self.ledger,
            "number": number,
            "k": min(self.k, len(builders)),
            "builders": builders,
            "promoters": promoters,
            "normalisers": [],
            "checks": [],
            "branches": {SECRET: {"commit_and_reveal": True}},
            "dismissed": [{"sha256": each, "reason": "a broken disk"} for each in self.dismissed],
            "revocations": revocations,
            "allow_shared_keys": False,
            "allow_shared_machine": False,
        }

    def _keys(self, builder: str) -> list[NotedSigner]:
        more = [self.second_key(builder)] if builder in self.with_two_keys else []
        return [self.key(builder), *more]

    def hand_out(self, node: Node) -> None:
        """The operator copies the policy from one machine to the others, sooner or later."""
        folder = VirtualPath(node, "policy")
        data = (folder / POLICY).read_bytes()
        signature = (folder / f"{POLICY}.sig").read_bytes()
        dice = Dice(self.world.seed, "hand out", self.drafted)
        for other in self.world.nodes:
            if other is not node:
                delay = dice.around(dice.pick((2.0, 30.0, 600.0)))
                self.world.scheduler.at(delay, lambda to=other: self._put(to, data, signature))  # type: ignore[misc]

    def _put(self, node: Node, data: bytes, signature: bytes) -> None:
        folder = node.folders.names["policy"]
        assert isinstance(folder, Folder)
        for name, each in ((POLICY, data), (f"{POLICY}.sig", signature)):
            folder.names[name] = folder.synced[name] = File(each, each)

    # ------------------------------------------------------------ builds

    def next_campaign(self, branch: str) -> Campaign:
        """Returns a commit of the source that nobody has built yet."""
        self.campaigns.append(Campaign(branch, f"{len(self.campaigns) + 1:040x}"))
        return self.campaigns[-1]

    def order(self, site: Site, of: Campaign, names: Sequence[str], retries: int = 0) -> dict[str, str]:
        """Orders a build of each of these builders. Returns the jobs by builder."""
        jobs = {name: f"job_{site.random.op()}" for name in names}
        for name, job in jobs.items():
            site.ask({
                "kind": "job.create", "id": job, "branch": of.branch, "commit": of.commit, "target": name,
                "priority": 1, "maximum_losses": 2, "retries": {"test": retries},
            })  # fmt: skip
        return jobs

    def wants(self, job: Job) -> bool:
        """Says whether a job's build is one that is promoted."""
        return job.branch in (OPEN, SECRET)

    def made_by(
        self, node: Node, job: Job, attempt: int, files: dict[str, bytes]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Returns what a build makes, nothing where it fails, and what its manifest says of its inputs.

        `files` are what a build makes that belongs to no campaign.
        """
        dice = Dice(self.world.seed, "made", job.id, attempt)
        facts: dict[str, Any] = {}
        if self.wants(job):
            broken = f" by a broken disk of {node.name}" if dice.chance(0.09) else ""
            day = _DAY + dice.chance(0.05)
            names = () if dice.chance(0.06) else ("a.deb", "b.deb")
            files = {name: f"{name} of {job.commit}{day}{broken}".encode() for name in names}
            facts["recipe"] = Recipe(source="x", branch=job.branch, commit=job.commit, source_date_epoch=day)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.notary.built.setdefault(job.id, {})[attempt] = digests
        return files, facts

    def tend(self, node: Node, site: Site) -> None:
        """A builder reveals what it has sealed, and signs what it built and has not signed by this policy."""
        view = site.state(fresh=False).view
        for job_id in secret.sealed(site):
            if not self._may_commit(view, job_id) or self._tending.chance(0.1):
                with suppress(Refused):
                    secret.reveal(site, job_id)
        view = site.state(fresh=False).view
        by = hashlib.sha256((VirtualPath(node, "policy") / POLICY).read_bytes()).hexdigest()
        for job in [each for each in sites.jobs(view).jobs if self._is_seen(each, site.builder)][-4:]:
            key = node.name, job.id, by, self.world.checker.rewound_at
            if key not in self.stated:
                self.stated.add(key)  # tried: again with the next policy, or after a rewind
                with suppress(Refused, TrustError, ArtifactsInvalid):
                    attest(site, self.trust(node), self.key(site.builder), job.id)

    def _may_commit(self, view: View, job_id: str) -> bool:
        """Says whether somebody in a job's round can still commit, as far as one sees."""
        its = read_round(view, job_id)
        running = {job.id for job in sites.jobs(view).jobs if not job.ended}
        return its is not None and any(
            job in running for builder, job in its.participants.items() if builder not in its.committed
        )

    def _is_seen(self, job: Job, builder: str) -> bool:
        """Says whether a job is a builder's of a campaign, and what it made is to be seen."""
        succeeded = (job.assigned_to, job.outcome) == (builder, "succeeded")
        return self.wants(job) and succeeded and job.manifest is not None

    # ------------------------------------------------------------ what machines keep

    def landed(self, asked: Asked | None, request: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Notes which machine entered a promotion."""
        if request["kind"] == "promotion.enter" and outcome["ok"] and asked is not None:
            self._entered[request["branch"], outcome["value"]["number"]] = asked.node

    def _unrevealed(self) -> list[tuple[str, str, bool]]:
        """Returns the builders that have committed and not revealed: job, and whether they still can."""
        view, found = self.world.checker.links[-1].tree, []
        for name in view.names(paths.TRUST + "/rounds"):
            its = json.loads(view.read(paths.round(name)) or b"{}")
            for builder in sorted(its["committed"].keys() - its["revealed"].keys()):
                job = its["participants"][builder]
                nodes = [node for node in self.world.nodes if node.builder == builder]
                found.append((builder, job, any(self._has_sealed(node, job) for node in nodes)))
        return found

    def _has_sealed(self, node: Node, job: str) -> bool:
        place = VirtualPath(node, "work", "sealed")
        return any((one / "opening").exists() for one in place.glob(f"{job}.*"))

    def open_ends(self) -> list[str]:
        """Returns what is sealed, and has been committed to: it is going to be revealed."""
        return [f"{who} has still to reveal {job}" for who, job, can in self._unrevealed() if can]

    def at_the_end(self) -> None:
        """commitments-can-be-opened, promoted-sets-are-kept: by machines whose disk is their own, while no
        rewind took anything back.
        """
        odd = self.world.witness.odd_disks
        own = {node.builder for node in self.world.nodes} - {
            node.builder for node in self.world.nodes if node.name in odd
        }
        for builder, job, _ in [] if self.world.rewound else self._unrevealed():
            if builder in own:
                violated(
                    "commitments-can-be-opened", f"{builder} committed to {job}, and lost what it sealed"
                )
        nodes = {node.name: node for node in self.world.nodes if node.name not in odd}
        view = self.world.checker.links[-1].tree
        for (branch, number), name in sorted(self._entered.items()):
            data = view.read(paths.promotion(branch, number))
            if name in nodes and data is not None and not self.world.rewound:
                self._insist_on_set(nodes[name], branch, number, data)

    def _insist_on_set(self, node: Node, branch: str, number: int, data: bytes) -> None:
        entry = json.loads(data)
        if entry["promoter"] != OPERATOR:
            return
        place = VirtualPath(node, "promoted", branch)
        prepared = place / f".prepared-{hashlib.sha256(data).hexdigest()[:32]}"
        for folder in (place / f"{number:06d}", prepared):
            files = folder / FILES
            found = digests_in(files) if files.is_dir() else {}
            if found == {each["name"]: each["sha256"] for each in entry["artifacts"]}:
                return
        violated("promoted-sets-are-kept", f"{node.name} entered {branch} {number}, and has not its files")

    # ------------------------------------------------------------ what users believe

    def believes(self, folder: VirtualPath) -> None:
        """believed-is-agreed: whoever verified a set was right to, by what was truly signed."""
        data = (folder / ENTRY).read_bytes()
        signature = (folder / f"{ENTRY}.sig").read_bytes()
        beside = folder / "attestations"
        said = [
            (one.read_bytes(), (beside / f"{one.name}.sig").read_bytes())
            for one in beside.iterdir()
            if one.name.endswith(".json")
        ]
        insist_on_agreement("believed-is-agreed", self.notary, data, signature, said, frozenset())


def promoting(node: Node) -> Promoting:
    """Returns what the world of a machine has of promotion."""
    found = node.world.promoting
    assert found is not None
    return found


def some_campaign(mine: Promoting, view: View, dice: Dice, signed: int = 0) -> Campaign:
    """Returns one of the latest campaigns, mostly one of which so many statements are there."""
    latest = mine.campaigns[-6:]
    ready = [of for of in latest if len(view.names(paths.attestations(of.commit))) >= 2 * signed]
    return dice.pick(ready if ready and dice.chance(0.9) else latest)


def installed(folder: Path) -> None:
    """Stands for packages that can be installed."""
