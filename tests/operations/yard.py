"""Builders that build, sign and promote, each on a machine of its own, over one remote of either kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.builds.artifacts import Item, collect, new_manifest
from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide, genesis
from pipeline.edge.clock import ManualClock
from pipeline.edge.identity import machine_id
from pipeline.edge.ref_store import RefStore
from pipeline.edge.signatures import Signer, Verifier
from pipeline.ledger.genesis import initialise
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.operations import policy
from pipeline.operations.admission import admit
from pipeline.operations.attest import Attested, attest
from pipeline.operations.promote import Order, Promoted, promote, rollback
from pipeline.operations.queue import find
from pipeline.operations.secret import seal
from pipeline.operations.settings import resolve
from pipeline.operations.site import Site
from pipeline.operations.trust import DRAFT, POLICY, Trust
from pipeline.records.base import dump, dump_json
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig, Environment, Recipe
from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedBuild,
    ComparedSide,
    Comparison,
    Verdict,
    Wire,
)
from pipeline.records.policy import Policy
from tests.ledger.toy import CountedRandomness, FakeProcesses

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BRANCH = "ExternalNew"
NAMES = ("build1", "build2", "build3")
FILES = {"agent.jar": b"agent\n", "more/common.jar": b"common\n"}
OTHER = FILES | {"agent.jar": b"another agent\n"}


def commit(number: int) -> str:
    """Returns the id of a commit of the source."""
    return f"{number:040x}"


def installed(folder: Path) -> None:
    """Stands for packages that can be installed."""


@dataclass
class Yard:
    """The whole of it. `trusts` are what each machine believes; the operator's is `operator`."""

    folder: Path
    refs: Callable[[str], RefStore]
    signer: Callable[[str], Signer]
    verifier: Verifier
    sites: dict[str, Site] = field(default_factory=dict)
    trusts: dict[str, Trust] = field(default_factory=dict)
    signers: dict[str, Signer] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)
    jobs: int = 0

    def begin(self) -> None:
        """Makes a ledger, three machines, and a policy by which two of three builders must agree."""
        files = genesis([Builder(name=name) for name in NAMES], dump(BuildConfig()), WHEN)
        random = CountedRandomness("init")
        initialise(self.refs("init"), files, "build1", ManualClock(WHEN), random, REDUCER_VERSION)
        for name in (*NAMES, "operator", "root", "stranger"):
            self.signers[name] = self.signer(name)
        for name in NAMES:
            self.sites[name] = self.site(name)
            self.trusts[name] = self.trust(name)
        self.draft(k=2)
        self.sign()

    def site(self, name: str) -> Site:
        home = self.folder / name
        settings = replace(
            resolve(home, None, {"PIPELINE_MACHINE_LOCK": str(self.folder / f"{name}.lock")}),
            heartbeat_seconds=0.0,
            patience_seconds=60.0,
            report_seconds=60.0,
        )
        here, random, clock = FakeProcesses(name), CountedRandomness(name), ManualClock(WHEN)
        store = Store(home / "store", identity=machine_id(), new_id=f"{name}-writer")
        self.stores.append(store)
        terms = Settings(author=name, reducer=REDUCER_VERSION)
        ledger = Ledger(store, self.refs(name), decide, adopt, clock, random, here, terms, admit)
        return Site(
            settings,
            name,
            ledger,
            clock,
            random,
            here,
            decide,
            adopt,
            REDUCER_VERSION,
            machine=lambda: f"machine-{name}",
        )

    def trust(self, name: str) -> Trust:
        return Trust(self.folder / name / "policy", self.signers["root"].public_key.text, self.verifier)

    def close(self) -> None:
        for store in self.stores:
            store.close()

    # Policy

    def draft(self, **changes: object) -> None:
        """Drafts a policy, or the next one, on the operator's machine, which is build1's."""
        public = self.folder / "keys"
        public.mkdir(exist_ok=True)
        for name, signer in self.signers.items():
            (public / f"{name}.pub").write_text(signer.public_key.text)
        trust = self.trusts["build1"]
        builders = [f"{n}=machine-{n}={public / n}.pub" for n in NAMES]
        order = policy.Order(0, builders, [f"operator={public}/operator.pub"])
        place = policy.init(self.sites["build1"], trust, order)
        value = Policy.model_validate_json(place.read_bytes()).model_dump(mode="json") | changes
        place.write_bytes(dump_json(value))

    def sign(self, by: str = "root") -> Policy:
        """Signs the draft, and hands it to every machine."""
        trust = self.trusts["build1"]
        signed = policy.sign(trust, self.signers[by])
        self.hand_out()
        assert not (trust.folder / DRAFT).exists()
        return signed

    def hand_out(self, place: Path | None = None) -> None:
        source = place or self.trusts["build1"].folder
        for trust in self.trusts.values():
            trust.folder.mkdir(parents=True, exist_ok=True)
            for name in (POLICY, f"{POLICY}.sig"):
                data = (source / name).read_bytes()
                (trust.folder / name).write_bytes(data)

    # Builds

    def build(
        self,
        name: str,
        files: dict[str, bytes] | None = None,
        number: int = 1,
        environment: Environment | None = None,
        **recipe: object,
    ) -> str:
        """Builds a commit and reports it. Returns the job."""
        site = self.sites[name]
        self.jobs += 1
        job = f"job-{self.jobs}-{name}"
        asked = {"kind": "job.start", "id": job, "branch": BRANCH, "commit": commit(number)}
        token = str(site.ask({**asked, "holder": site.holder()})["token"])
        manifest = new_manifest(
            job_id=job, server=name, branch=BRANCH, commit=commit(number), created_at=WHEN, token=token
        )
        known = {"source": "https://example.org/c.git", "branch": BRANCH, "commit": commit(number)}
        of = Recipe.model_validate({**known, "source_date_epoch": 1, **recipe})
        source = self.folder / f"tree-{job}"
        items = []
        for path, data in (FILES if files is None else files).items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
            items.append(Item(source / path, path))
        begun = manifest.model_copy(update={"recipe": of, "environment": environment})
        made = collect(site.settings.artifacts, begun, items, None)
        done = {"kind": "job.complete", "job_id": job, "token": token, "outcome": "succeeded"}
        site.ask(done, payloads={"manifest": dump(made)})
        return job

    def commit(self, name: str, job: str, files: dict[str, bytes] | None = None) -> None:
        """Builds a job of a round, seals the report, and commits to it."""
        site, folder = self.sites[name], self.folder / f"tree-{job}"
        value = site.ask({"kind": "job.claim", "job_id": job, "holder": site.holder()})
        token = str(value["token"])
        assert value["round"]
        found, _ = find(site.state().view, job)
        manifest = new_manifest(
            job_id=job, server=name, branch=BRANCH, commit=found.commit, created_at=WHEN, token=token
        )
        recipe = Recipe(source="x", branch=BRANCH, commit=found.commit, source_date_epoch=1)
        items = []
        for path, data in (FILES if files is None else files).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            items.append(Item(folder / path, path))
        made = collect(site.settings.artifacts, manifest.model_copy(update={"recipe": recipe}), items, None)
        report = {"manifest": dump(made), "log": b"the log\n"}
        payloads = seal(site, self.trusts[name], self.signers[name], found, token, 1, report)
        done = {"kind": "job.complete", "job_id": job, "token": token, "outcome": "succeeded"}
        site.ask(done, payloads=payloads)

    def attest(self, name: str, job: str | None = None, by: str = "") -> Attested:
        return attest(self.sites[name], self.trusts[name], self.signers[by or name], job)

    def agree(self, number: int = 1, files: dict[str, bytes] | None = None) -> list[str]:
        """Lets build1 and build2 build the same and sign it. Returns their jobs."""
        jobs = [self.build(name, files, number) for name in ("build1", "build2")]
        for name, job in zip(("build1", "build2"), jobs, strict=True):
            self.attest(name, job)
        return jobs

    # Promotion

    def promote(
        self,
        jobs: Sequence[str],
        *,
        by: str = "operator",
        folder: Path | None = None,
        install: Callable[[Path], None] = installed,
        on: str = "build1",
        **changes: object,
    ) -> Promoted:
        order = Order([self.compared(*jobs, **changes)], jobs[0], folder)
        return promote(self.sites[on], self.trusts[on], self.signers[by], order, install)

    def rollback(self, number: int, by: str = "operator") -> Promoted:
        site, trust = self.sites["build1"], self.trusts["build1"]
        return rollback(site, trust, self.signers[by], BRANCH, number, installed)

    def compared(self, left: str, right: str, **changes: object) -> Comparison:
        """Returns what comparing two jobs says that agree."""
        import hashlib

        site = self.sites["build1"]
        (folder,) = site.settings.artifacts.glob(f"*/*/{left}.*")
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*.jar")]
        sides = [
            ComparedSide(size_bytes=1, sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest())
            for name in names
        ]
        number = int((folder / "manifest.json").read_text().partition('"commit": "')[2][:40], 16)
        builds = [
            ComparedBuild(builder=job.rpartition("-")[2], job_id=job, commit=commit(number))
            for job in (left, right)
        ]
        found = Comparison(
            verdict=Verdict.AGREE,
            scope="builds",
            independent=True,
            left=left,
            right=right,
            artifacts=[
                ComparedArtifact(name=name, verdict=Verdict.AGREE, left=side, right=side)
                for name, side in zip(names, sides, strict=True)
            ],
            left_build=builds[0],
            right_build=builds[1],
            wire=Wire(bytes=1, round_trips=1),
            duration_seconds=1.0,
        )
        return found.model_copy(update=changes)
