"""One valid file of each kind, with every shape that can be in it at least once."""

from __future__ import annotations

from typing import Any

COMMIT = "d8e22ab0af" + "5" * 30
JOB = "01931c5e-1f6a-7e2b-9f3a-5c0d7a44e1b2"
TOKEN = "1.7.01931c5e-2222-7e2b-9f3a-5c0d7a44e1b2"
NOON = "2025-10-29T12:00:00Z"
LATER = "2025-10-29T12:20:31Z"
SHA256 = "ab" * 32

_JOB: dict[str, Any] = {
    "id": JOB,
    "type": "build",
    "priority": 1,
    "branch": "ExternalNew",
    "commit": COMMIT,
    "assigned_to": "build2",
    "status": "failed",
    "created_at": NOON,
    "started_at": NOON,
    "completed_at": LATER,
    "outcome": "failed",
    "failure": {"class": "compile", "module": "cloud-xen", "message": "cannot find symbol", "line": 812},
    "token": TOKEN,
    "attempt": 1,
}
_MESSAGE: dict[str, Any] = {
    "id": "01931c5e-3333-7e2b-9f3a-5c0d7a44e1b2",
    "from": "build1",
    "to": "all",
    "type": "warning",
    "subject": "Zwölf Boxkämpfer",
    "body": "line one\nline two",
    "timestamp": NOON,
    "read": False,
    "recipients": ["build2", "build3"],
    "read_by": {"build2": LATER},
}
_RECEIPT = {"id": _MESSAGE["id"], "recipient": "build3", "read_at": NOON, "acknowledged_at": LATER}
_TOOLCHAIN = {
    "java": "17.0.9",
    "java_home": "/usr/lib/jvm/j",
    "maven": "3.8.7",
    "maven_home": "/usr/share/maven",
}

#: By the name of the state file in `pipeline.records.schemas`.
EXAMPLES: dict[str, Any] = {
    "status": {
        "server": "build2",
        "ip": "192.0.2.7",
        "manager": "an operator",
        "timestamp": NOON,
        "status": "building",
        "current_job": {"id": JOB, "branch": "ExternalNew", "commit": COMMIT, "started_at": NOON},
        "last_build": {
            "id": "job_1761739200",
            "status": "success",
            "completed_at": NOON,
            "duration_seconds": 1324.5,
            "artifacts": ["cloudstack-common_4.21.0.0_all.deb"],
        },
        "system": {"cpu_usage": 12.5, "memory_used_gb": 3.25, "disk_free_gb": 410.0},
    },
    "heartbeat": {
        "server": "build1",
        "timestamp": NOON,
        "uptime_seconds": 86400.0,
        "healthy": True,
        "leases": {TOKEN: "5f" * 16},
        "progress": {"module": 12, "of": 147},
    },
    "jobs": {"jobs": [_JOB]},
    "comparisons": {
        "comparisons": [
            {
                "id": "op7",
                "by": "build1",
                "at": NOON,
                "branch": "ExternalNew",
                "commit": COMMIT,
                "builds": [
                    {"builder": "build1", "job_id": JOB},
                    {"builder": "build2", "job_id": "job_1761739200"},
                ],
                "verdict": "DIFFER",
                "independent": True,
                "artifacts": {"AGREE": 7, "DIFFER": 1},
                "groups": [{"builders": ["build1"]}, {"builders": ["build2"]}],
                "inputs": [],
                "causes": {"timestamp": 3},
            }
        ]
    },
    "locks": {
        "locks": [
            {
                "name": "builder/build2",
                "owner": "build2",
                "timestamp": NOON,
                "token": TOKEN,
                "predecessor": {"owner": "build1", "token": "1.3.op"},
            }
        ]
    },
    "messages": {"messages": [_MESSAGE]},
    "mailbox": {
        "sealed": 3,
        "unread": {"build3": {"m1": "coordination/archive/messages/000000/000000009.json"}},
        "read": {"build3": ["m1"]},
        "receipts": [_RECEIPT],
    },
    "ledger": {
        "ordinal": 12,
        "epoch": 1,
        "next_token": 8,
        "writers": {"w1": {"settled": 4, "completed": {"6": {"op": "op6", "outcome": {"job": JOB}}}}},
        "waiters": [
            {
                "op": "op9",
                "names": ["promotion"],
                "owner": "build1",
                "ttl_seconds": 180.0,
                "interval_seconds": 60.0,
            }
        ],
        "quarantined": [{"path": "x.json", "stored": None, "commit": COMMIT, "reason": "not JSON"}],
    },
    "build_config": {
        "cloudstack": {"version": "4.21", "branch": "ExternalNew", "repository": "https://example.org/c.git"},
        "build": {
            "maven_opts": "-Xmx8g",
            "profiles": ["systemvm", "developer"],
            "skip_tests": True,
            "parallel_builds": 2,
            "substitutes": {
                "jars": [{"coordinates": "g:a:1", "source": "h:b:2", "sha256": SHA256}],
                "downloads": [{"url": "http://example.org/md5sum.txt", "sha256": SHA256, "text": "x"}],
            },
        },
        "java": {"version": "17", "home": ""},
        "notifications": {"on_success": True, "on_failure": False, "notify_via": "messages"},
        "last_updated": NOON,
    },
    "builders": {"builders": [{"name": "build1", "host": "ll-ACSBuilder1", "branches": ["ExternalNew"]}]},
    "health_dashboard": {
        "generated_at": NOON,
        "servers": {"build1": {"status": "idle"}},
        "history": [{"timestamp": NOON}],
    },
    "manifest": {
        "job_id": JOB,
        "server": "build1",
        "branch": "ExternalNew",
        "commit": COMMIT,
        "created_at": NOON,
        "build_dir": "/var/lib/artifacts/1.7",
        "artifacts": [
            {
                "name": "cloudstack-common_4.21.0.0_all.deb",
                "path": "debs/cloudstack-common_4.21.0.0_all.deb",
                "size_bytes": 97_000_000,
                "checksums": {"sha256": SHA256},
                "package": "cloudstack-common",
            }
        ],
        "artifact_count": 1,
        "total_size_bytes": 97_000_000,
        "recipe": {
            "source": "https://example.org/c.git",
            "branch": "ExternalNew",
            "commit": COMMIT,
            "source_date_epoch": 1_761_739_200,
            "toolchain": _TOOLCHAIN,
        },
        "stages": [{"name": "maven", "duration_seconds": 678.0}],
        "modules": [{"name": "Apache CloudStack", "duration_seconds": 1.5}],
        "downloads": [{"url": "http://example.org/md5sum.txt", "tool": "wget", "status": "served"}],
        "log": {"path": "build.log.gz", "size_bytes": 1, "raw_size_bytes": 2, "sha256": SHA256},
        "inputs": {
            "tree": COMMIT,
            "expected": ["cloudstack-common_4.21.0.0_all.deb"],
            "submodules": {"lib": COMMIT},
            "npm_locks": {"ui/package-lock.json": SHA256},
            "dependencies": {"path": "dependencies.txt", "count": 1, "size_bytes": 9, "sha256": SHA256},
        },
        "environment": {
            "machine": "3d1219c7",
            "user": "root",
            "cores": 2,
            "toolchain": _TOOLCHAIN,
            "packages": {"path": "packages.txt", "count": 1, "size_bytes": 9, "sha256": SHA256},
        },
    },
    "structured_log": {
        "log_id": "log1",
        "job_id": JOB,
        "server": "build1",
        "branch": "ExternalNew",
        "commit": COMMIT,
        "started_at": NOON,
        "events": [{"timestamp": NOON, "level": "info", "message": "stage", "details": {"name": "maven"}}],
        "status": "completed",
        "exit_code": 0,
        "completed_at": LATER,
        "duration_seconds": 1231.0,
    },
    "message_archive": {"ordinal": 4711, "messages": [_MESSAGE], "receipts": [_RECEIPT]},
    "job_archive": {"ordinal": 4711, "jobs": [_JOB]},
    "quarantine_archive": {
        "ordinal": 4711,
        "quarantined": [
            {
                "path": "a.json",
                "stored": "coordination/quarantine/000000001/a.json",
                "commit": COMMIT,
                "reason": "-",
            }
        ],
    },
    "round": {
        "id": "r1",
        "branch": "ExternalNew",
        "commit": COMMIT,
        "participants": {"build1": JOB},
        "committed": {"build1": SHA256},
        "revealed": {"build1": {"manifest": "m.json", "sha256": SHA256, "unwitnessed": ["a.deb"]}},
    },
    "round_of": {"round": "r1"},
    "promotion_head": {"branch": "ExternalNew", "number": 3, "sha256": SHA256},
    "transaction": {
        "reducer": 1,
        "ordinal": 12,
        "parent": COMMIT,
        "tree": COMMIT,
        "writer": "w1",
        "settled": 4,
        "entries": [
            {
                "sequence": 5,
                "op": "op5",
                "request": {"verb": "job.claim"},
                "evidence": {"now": NOON, "random": "0f" * 16, "observations": {}},
                "outcome": {"job": JOB},
                "payloads": {"log": COMMIT},
            }
        ],
        "nonce": "c0" * 16,
    },
    "auto_reply_rules": [
        {
            "contains": "status?",
            "type": "request",
            "action": "reply",
            "reply": {"subject": "s", "body": "b", "type": "info"},
        },
        {"contains": "fyi", "action": "mark"},
    ],
    "file_registry": {
        "files": [
            {
                "id": "file_1",
                "from": "build1",
                "to": "build2",
                "category": "log",
                "filename": "maven.log",
                "path": "shared/files/maven.log",
                "size_bytes": 12,
                "description": "",
                "timestamp": NOON,
                "downloaded_by": [{"server": "build2", "timestamp": LATER}],
            }
        ]
    },
    "branches_config": {
        "branches": {"ExternalNew": {"enabled": True, "priority": 1, "auto_build": True}},
        "defaults": {"priority": 5},
    },
}
