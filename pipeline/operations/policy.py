"""The operator's policy: drafted, signed with the root key, shown; and keys that are revoked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.coordination.counting import Rules
from pipeline.edge.signatures import Signer
from pipeline.errors import FileFailed, PolicyInvalid, UsageError
from pipeline.ledger.history import commit_at
from pipeline.operations.site import Site
from pipeline.operations.trust import DRAFT, POLICY, REVOCATIONS, Signed, Trust, write_durably
from pipeline.records import paths
from pipeline.records.base import dump, load_json
from pipeline.records.decisions import View
from pipeline.records.keys import read_public_key
from pipeline.records.names import check_name, is_name
from pipeline.records.policy import Policy, Revocations
from pipeline.records.statements import Kind, made


@dataclass(frozen=True)
class Order:
    """What a draft is made from. Builders are `NAME=MACHINE=FILE.pub`, promoters `NAME=FILE.pub`."""

    k: int
    builders: Sequence[str]
    promoters: Sequence[str]
    checks: Sequence[str] = ()
    normalisers: Sequence[str] = ()


@dataclass(frozen=True)
class Shown:
    """The policy in force, the digest that statements name, and the number of the revocations."""

    policy: Policy
    sha256: str
    revocations: Revocations | None


def init(site: Site, trust: Trust, order: Order) -> Path:
    """Writes a draft to be looked at and signed, and returns where it lies.

    Where there is a policy, the draft is what follows it. Raises UsageError, and RecordInvalid for what
    cannot be a policy.
    """
    value: dict[str, Any] = {
        "kind": "policy",
        "format": 1,
        "ledger": first_commit(site),
        "number": 1,
        "k": 2,
        "builders": [],
        "promoters": [],
        "normalisers": [],
        "checks": [],
        "branches": {},
        "dismissed": [],
        "revocations": 0,
        "allow_shared_keys": False,
        "allow_shared_machine": False,
    }
    if (trust.folder / POLICY).exists():
        rules = rules_of(site.state().view, trust)
        number = rules.revocations.number if rules.revocations else 0
        value = rules.policy.model_dump(mode="json", by_alias=True)
        value |= {"number": rules.policy.number + 1, "revocations": number}
    if order.builders:
        value["builders"] = [_builder(each) for each in order.builders]
    if order.promoters:
        value["promoters"] = [_promoter(each) for each in order.promoters]
    if order.checks:
        value["checks"] = list(order.checks)
    if order.normalisers:
        value["normalisers"] = sorted({_normaliser(each) for each in order.normalisers})
    value["k"] = order.k or value["k"]
    place = trust.folder / DRAFT
    write_durably(place, dump(made(Policy, value)))
    return place


def _builder(text: str) -> dict[str, Any]:
    name, _, rest = text.partition("=")
    machine, _, place = rest.partition("=")
    if not (is_name("builder", name) and machine and place):
        raise UsageError(
            f"--builder {text!r} is not NAME=MACHINE=FILE.pub.",
            remedy="`invoke policy.show --machine` on the builder tells its machine's id.",
        )
    return {"name": name, "machine": machine, "keys": [_key(place)], "reads_keys_of": []}


def _promoter(text: str) -> dict[str, Any]:
    name, _, place = text.partition("=")
    if not (is_name("builder", name) and place):
        raise UsageError(f"--promoter {text!r} is not NAME=FILE.pub.")
    return {"name": name, "keys": [_key(place)]}


def _normaliser(name: str) -> str:
    from pipeline.compare.normalising import EVERY  # only a draft needs it

    if name not in EVERY:
        raise UsageError(
            f"There is no normaliser {name[:80]!r}.", remedy=f"There are {', '.join(sorted(EVERY))}."
        )
    return name


def _key(place: str) -> str:
    try:
        return read_public_key(Path(place).expanduser().read_text()).text
    except OSError as exc:
        raise UsageError(f"`{place}` cannot be read: {exc.strerror}.") from exc
    except (ValueError, RuntimeError) as exc:
        raise UsageError(f"`{place}` holds no key that can be used: {exc}.") from exc


def first_commit(site: Site) -> str:
    """Returns the ledger's first commit, which names it."""
    refs = site.ledger.refs
    every = refs.since(site.state().tip, None) or []
    # The first that a transaction made: a merge by hand may have brought a root of its own.
    for oid in reversed(every):
        if not commit_at(refs, oid).parents:
            return oid
    raise PolicyInvalid("The ledger's first commit is out of reach: its history is cut off.", reason="cut")


def sign(trust: Trust, root: Signer) -> Policy:
    """Signs the draft and puts it in force here. Raises PolicyInvalid, Outdated, RecordInvalid."""
    place = trust.folder / DRAFT
    try:
        text = place.read_bytes()
    except OSError as exc:
        raise FileFailed(
            f"There is no draft to sign: `{place}` cannot be read: {exc.strerror}.",
            remedy="`invoke policy.init`",
        ) from exc
    policy = made(Policy, load_json(text, str(place), remedy="Correct the draft."))
    _insist_on_root(trust, root)
    if (trust.folder / POLICY).exists():
        before, _ = trust.policy()
        if policy.number <= before.number or policy.ledger != before.ledger:
            raise PolicyInvalid(
                f"The draft has number {policy.number}, after number {before.number}, of ledger"
                f" {policy.ledger[:12]}, after {before.ledger[:12]}.",
                reason="number",
                remedy="Numbers only grow, and a policy stays with its ledger: `invoke policy.init`.",
            )
    data = dump(policy)
    signed = Signed(data, root.sign(data, Kind.POLICY))
    trust.read_policy(signed, str(place))
    trust.note("policy", policy.number, signed.sha256)
    trust.keep(POLICY, signed)
    place.unlink(missing_ok=True)
    return policy


def _insist_on_root(trust: Trust, root: Signer) -> None:
    if root.public_key.text != trust.root():
        raise PolicyInvalid(
            f"The key {root.public_key.fingerprint} is not the root key of this machine,"
            f" {read_public_key(trust.root()).fingerprint}.",
            reason="unknown-key",
            remedy="Sign with the key of the setting `root_key`.",
        )


def show(site: Site, trust: Trust) -> Shown:
    """Returns what is in force, by this machine's files and the ledger."""
    rules = rules_of(site.state().view, trust)
    return Shown(rules.policy, rules.sha256, rules.revocations)


def revoke(site: Site, trust: Trust, root: Signer, key: str, reason: str) -> Revocations:
    """Adds a key to the list of those that count for nothing, and publishes the list.

    `key` is a fingerprint, a `.pub` file, or a name of the policy for all of its keys. Raises UsageError.
    """
    _insist_on_root(trust, root)
    rules = rules_of(site.state().view, trust)
    prints = _fingerprints(rules.policy, key)
    before = list(rules.revocations.revoked) if rules.revocations else []
    news = [each for each in prints if each not in rules.revoked]
    if not news:
        raise UsageError(f"{key} is revoked already.", remedy="`invoke policy.show` lists revoked keys.")
    value = {
        "kind": "revocations",
        "format": 1,
        "ledger": rules.policy.ledger,
        "number": rules.revocations.number + 1 if rules.revocations else max(1, rules.policy.revocations + 1),
        "revoked": [*(e.model_dump() for e in before), *({"key": e, "reason": reason} for e in news)],
    }
    said = made(Revocations, value)
    data = dump(said)
    signed = Signed(data, root.sign(data, Kind.REVOCATIONS))
    trust.read_revocations(signed, REVOCATIONS)
    site.ask({"kind": "revocation.publish"}, payloads=payloads(signed))
    trust.note("revocations", said.number, signed.sha256)
    trust.keep(REVOCATIONS, signed)
    return said


def _fingerprints(policy: Policy, key: str) -> list[str]:
    if key.startswith("SHA256:"):
        return [key]
    named = {**policy.builder_keys, **policy.promoter_keys}
    if key in named:
        return [read_public_key(each).fingerprint for each in named[check_name("builder", key)]]
    return [read_public_key(_key(key)).fingerprint]


def payloads(signed: Signed) -> Mapping[str, bytes]:
    """Returns a signed statement as a request carries it."""
    return {"statement": signed.data, "signature": signed.signature or b""}


def rules_of(view: View, trust: Trust) -> Rules:
    """Returns what is in force, with the ledger's lists of revoked keys. Raises PolicyInvalid, Outdated."""
    return trust.rules(signed_in(view, paths.REVOCATIONS))


def signed_in(view: View, folder: str) -> dict[str, Signed]:
    """Returns the statements in a folder of the ledger with their signatures, by path."""
    ending = paths.signature("")
    found = {}
    for name in view.names(folder):
        path = f"{folder}/{name}"
        data = view.read(path)
        if data is not None and not name.endswith(ending) and name != "head.json":
            found[path] = Signed(data, view.read(paths.signature(path)))
    return found
