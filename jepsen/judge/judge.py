#!/usr/bin/env python3
"""Judges the certificates and evidence that a run collected, from public keys only.

    judge.py TRUST FOLDER    TRUST is a trust bundle (JSON). In FOLDER every *.certificate and
                             *.evidence is judged; a JSON list goes to standard output

The verifier is docs/vectors/check.py, written from the protocol's text: no line of it is shared with
the product that issued what is judged here.
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "docs" / "vectors"))
import check  # noqa: E402

MAX_FILES = 10_000
MAX_BYTES = 4 << 20
VERIFIERS = {".certificate": check.verify_certificate, ".evidence": check.verify_evidence}


def judge(path, trust):
    found = {"file": path.name, "kind": path.suffix[1:]}
    try:
        check.require(path.stat().st_size <= MAX_BYTES, "longer than %d bytes" % MAX_BYTES)
        found["says"] = VERIFIERS[path.suffix](path.read_bytes(), trust)
        return dict(found, valid=True, why=None)
    except check.Refused as refused:
        return dict(found, valid=False, why=str(refused))
    except Exception as error:  # A verifier that stumbles has not verified anything.
        return dict(found, valid=False, why="the verifier failed: %r" % error)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    trust, folder = map(pathlib.Path, arguments)
    files = sorted(path for path in folder.iterdir() if path.suffix in VERIFIERS)
    if len(files) > MAX_FILES:
        print("%d files, at most %d are judged at once" % (len(files), MAX_FILES), file=sys.stderr)
        return 2
    try:
        trust = check.Trust(json.loads(trust.read_text(encoding="utf-8")))
    except (check.Refused, KeyError, ValueError) as error:
        print("this trust bundle convinces nobody: %s" % error, file=sys.stderr)
        return 3
    json.dump([judge(path, trust) for path in files], sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
