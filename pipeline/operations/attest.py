"""What builders state of their builds: made and signed here, and read from the ledger with what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.builds.artifact_sets import verify
from pipeline.compare.inputs import inputs_of
from pipeline.coordination.counting import Rules, Seen, Stated
from pipeline.coordination.rounds import read_round, withheld
from pipeline.edge.signatures import Signer
from pipeline.errors import ArtifactsInvalid, NotFound, PipelineError, PromotionRefused, SignatureInvalid
from pipeline.operations import artifacts
from pipeline.operations import site as sites
from pipeline.operations.policy import payloads, rules_of, signed_in
from pipeline.operations.queue import archived, find
from pipeline.operations.site import Site
from pipeline.operations.trust import Signed, Trust
from pipeline.records import paths
from pipeline.records.attestation import Attestation, BuildFacts, BuildOrder, attestation_of
from pipeline.records.base import dump, dump_json, load
from pipeline.records.builds import Manifest
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.keys import read_public_key
from pipeline.records.statements import Kind, read_statement, sha256_of

_MOST_KEYS = 200


@dataclass(frozen=True)
class Attested:
    """What was published: for which job, the statement's SHA-256, and whether it was there already.

    `normalisers`: how the files came about, as `records.rewriting` says it.
    """

    job_id: str
    sha256: str
    artifacts: dict[str, str]
    there: bool
    normalisers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Own:
    """A build of this builder's, looked at: the job, where that is sealed, the manifest, where it lies."""

    job: Job
    archive: str | None
    data: bytes
    manifest: Manifest
    folder: Path


def attest(site: Site, trust: Trust, signer: Signer, job_id: str | None = None) -> Attested:
    """Signs and publishes what this builder made: of a job, or of its newest build that is kept here.

    Raises NotFound, ArtifactsInvalid for a set that is not what was reported, SignatureInvalid for a key that
    is not this builder's by the policy, Refused with the ledger's own words.
    """
    view = site.state().view
    rules = rules_of(view, trust)
    insist_on_key(rules, site.builder, signer)
    own = read_own(site, view, job_id)
    return publish(site, rules, signer, own, promotable(own.manifest), [])


def read_own(site: Site, view: View, job_id: str | None) -> Own:
    """Reads a build of this builder's, and every byte of it. Raises NotFound, ArtifactsInvalid."""
    job, archive = own_job(site, view, job_id)
    path, data = reported_manifest(view, job, site.builder)
    if data is None or path is None:
        raise NotFound(
            f"Job {job.id} has no manifest in the ledger.",
            reason="no-manifest",
            remedy=f"It has not revealed: `invoke reveal --id {job.id}`."
            if read_round(view, job.id)
            else None,
        )
    manifest = load(Manifest, data, path)
    return Own(job, archive, data, manifest, _insist_on_set(site, job.id, manifest))


def reported_manifest(view: View, job: Job, builder: str) -> tuple[str | None, bytes | None]:
    """Returns where a job's manifest lies in the ledger, and its bytes: as reported, or as revealed."""
    its = read_round(view, job.id)
    path = job.manifest or (its.revealed[builder].manifest if its and builder in its.revealed else None)
    return path, view.read(path) if path else None


def publish(
    site: Site,
    rules: Rules,
    signer: Signer,
    own: Own,
    files: Mapping[str, str],
    normalisers: Sequence[str],
) -> Attested:
    """Signs and publishes what a build's files are. Raises Refused with the ledger's own words."""
    job, recipe = own.job, own.manifest.recipe
    facts = BuildFacts(
        ledger=rules.policy.ledger,
        job=job.id,
        token=job.token or "",
        attempt=job.attempt,
        inputs=inputs_digest(own.manifest),
        manifest=sha256_of(own.data),
        policy=rules.sha256,
        machine=site.machine(),
        key=signer.public_key.fingerprint,
        normalisers=list(normalisers),
        readable_keys=readable_keys(rules, site.builder, site.settings.signing_key),
    )
    order = BuildOrder(branch=job.branch, commit=job.commit)
    said = attestation_of(site.builder, order, facts, recipe.source if recipe else "unknown", dict(files))
    signed = Signed(dump(said), signer.sign(dump(said), Kind.ATTESTATION))
    request = {"kind": "attestation.publish", "job_id": job.id, "archive": own.archive}
    done = site.ask(request, payloads=payloads(signed))
    return Attested(job.id, signed.sha256, said.artifacts, bool(done.get("there")), list(normalisers))


def attest_built(site: Site, trust: Trust, signer: Signer, job_id: str) -> Attested | None:
    """As `attest`, right after a build, which has succeeded whatever becomes of this: what fails is said."""
    try:
        return attest(site, trust, signer, job_id)
    except PipelineError as exc:
        site.say(f"Built, and not signed: {exc.message} `invoke attest --id {job_id}` tries again.")
        return None


def insist_on_key(rules: Rules, builder: str, signer: Signer) -> None:
    """Raises SignatureInvalid for a key that is not a builder's by the policy, or is revoked."""
    named = rules.builder(builder)
    if named is None or signer.public_key.text not in named.keys:
        raise SignatureInvalid(
            f"The key {signer.public_key.fingerprint} is not {builder}'s by the policy (number"
            f" {rules.policy.number}).",
            reason="unknown-key",
            remedy="Ask the operator to name it in the next policy, or set `signing_key` to the one that is.",
        )
    if signer.public_key.fingerprint in rules.revoked:
        raise SignatureInvalid(
            f"The key {signer.public_key.fingerprint} of {builder} is revoked.", reason="revoked-key"
        )


def own_job(site: Site, view: View, job_id: str | None) -> tuple[Job, str | None]:
    """Returns a job and where it is sealed: by default of the newest build that is kept here."""
    if job_id is not None:
        return find(view, job_id)
    for each in artifacts.kept(site):
        if each.manifest is None or each.manifest.server != site.builder:
            continue
        try:
            job, archive = find(view, each.manifest.job_id)
        except NotFound:
            continue
        if job.outcome == "succeeded" and job.token == each.manifest.token:
            return job, archive
    raise NotFound(
        f"{site.builder} keeps no build here that succeeded.",
        reason="not-found",
        remedy="`invoke build` first.",
    )


def _insist_on_set(site: Site, job_id: str, manifest: Manifest) -> Path:
    """Reads every byte again: what is signed is what lies here now. Returns where it lies."""
    folder = artifacts.folder_of(site, job_id)
    if folder is None:
        raise NotFound(
            f"The artifacts of {job_id} are not kept here.",
            reason="not-found",
            remedy="Only the builder that made them signs them, while it has them.",
        )
    problems = verify(manifest, folder)
    if problems:
        first = problems[0]
        raise ArtifactsInvalid(
            f"{folder}: `{first.path}` {first.message}. Nothing was signed.",
            remedy="`invoke artifacts.verify` tells all of it; build again.",
        )
    return folder


def promotable(manifest: Manifest) -> dict[str, str]:
    """Returns what of a build is signed and promoted: its packages, or everything where there are none."""
    packages = [each for each in manifest.artifacts if each.path.endswith(".deb")]
    return {each.path: each.checksums.get("sha256", "") for each in packages or manifest.artifacts}


def inputs_digest(manifest: Manifest) -> str:
    """Returns the digest of what two builds must have in common to be held against each other.

    The same that a comparison goes by. Who differs in it neither supports nor contradicts.
    """
    return sha256_of(dump_json(inputs_of(manifest.model_dump(mode="json", by_alias=True))))


def readable_keys(rules: Rules, builder: str, signing_key: str | None) -> list[str]:
    """Returns the builders of the policy whose private keys this process could read: beside its own key, and
    in the user's `.ssh`. What lies elsewhere only the operator knows (`reads_keys_of`).
    """
    owners = {read_public_key(text).point: each.name for each in rules.policy.builders for text in each.keys}
    found = set()
    for public in _public_files(signing_key):
        try:
            owner = owners.get(read_public_key(public.read_text()).point)
            with public.with_suffix("").open("rb"):
                pass
        except (OSError, ValueError):
            continue
        if owner is not None and owner != builder:
            found.add(owner)
    return sorted(found)


def _public_files(signing_key: str | None) -> Iterator[Path]:
    from pipeline.edge.identity import user_home

    folders = {user_home() / ".ssh"} | ({Path(signing_key).expanduser().parent} if signing_key else set())
    for folder in sorted(folders):
        try:
            yield from sorted(folder.glob("*.pub"))[:_MOST_KEYS]
        except OSError:
            continue


# From the ledger


def statements(view: View, trust: Trust, rules: Rules, commit: str) -> list[Seen]:
    """Returns what builders have stated about a commit, each with what its signature shows."""
    found = []
    for path, signed in signed_in(view, paths.attestations(commit)).items():
        seen = look(trust, rules, signed, path)
        found.append(replace(seen, witnessed=_witnessed(view, seen.statement)))
    return found


def _witnessed(view: View, said: Attestation) -> bool:
    """Says whether a build was committed to before any of its digests was to be seen in the ledger."""
    its = read_round(view, said.facts.job)
    shown = its.revealed.get(said.builder) if its else None
    return (
        its is not None
        and shown is not None
        and not withheld(its)
        and set(shown.unwitnessed).isdisjoint(said.artifacts)
    )


def stated_of(seen: Sequence[Seen], job: Job, normalisers: Sequence[str]) -> Attestation:
    """Returns what was said of a job's files as they are to be promoted. Raises PromotionRefused."""
    of = [each.statement for each in seen if each.statement.facts.job == job.id]
    own = next((each for each in of if sorted(each.facts.normalisers) == list(normalisers)), None)
    if own is None:
        what = "what its build is when normalised so" if of and normalisers else "what it built"
        again = " --comparison FILE" if normalisers else ""
        raise PromotionRefused(
            f"{job.assigned_to} has not signed {what}, as job {job.id}.",
            reason="unsigned",
            remedy=f"`invoke attest --id {job.id}{again}` on {job.assigned_to}.",
        )
    return own


def look(trust: Trust, rules: Rules, signed: Signed, path: str) -> Seen:
    """Reads a statement and looks at its signature. Raises RecordInvalid for one that cannot be read."""
    said = read_statement(Attestation, signed.data, path)
    try:
        by = trust.verifier.verify(signed.data, signed.signature, Kind.ATTESTATION, rules.policy.builder_keys)
    except SignatureInvalid as exc:
        return Seen(said, signed.sha256, problem=exc.reason)
    return Seen(said, signed.sha256, by.name, by.key, "")


def stated(view: View, branch: str, commit: str) -> list[Stated]:
    """Returns what builds of a commit that succeeded have reported, signed or not."""
    found = []
    for job in [*sites.jobs(view).jobs, *(job for _, job in archived(view))]:
        if (job.branch, job.commit, job.outcome) != (branch, commit, "succeeded"):
            continue
        path, data = reported_manifest(view, job, job.assigned_to or "")
        if data is None or path is None:
            continue
        manifest = load(Manifest, data, path)
        if manifest.complete:
            builder, made = job.assigned_to or manifest.server, promotable(manifest)
            found.append(Stated(builder, job.id, sha256_of(data), inputs_digest(manifest), made))
    return found
