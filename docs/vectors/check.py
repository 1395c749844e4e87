#!/usr/bin/env python3
"""An independent verifier, written from docs/PROTOCOL.md with the standard library alone.

    check.py                            check every vector beside this file
    check.py certificate FILE TRUST     verify a certificate against a trust bundle (JSON)
    check.py evidence FILE TRUST        verify evidence against a trust bundle (JSON)
    check.py grant FILE TRUST           verify the bytes of a lease's grant against a trust bundle (JSON)

It shares no code with the Rust implementation, so that the two can catch each other's mistakes.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys


class Refused(Exception):
    pass


def require(condition, why):
    if not condition:
        raise Refused(why)


def sha256(data):
    return hashlib.sha256(data).digest()


# ---- Ed25519, RFC 8032 section 5.1, strict ----

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1, 1, 0)


def add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    out = IDENTITY
    while scalar:
        if scalar & 1:
            out = add(out, point)
        point = add(point, point)
        scalar >>= 1
    return out


def same(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if len(data) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_M1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def small_order(point):
    return same(multiply(8, point), IDENTITY)


def ed25519_verify(key, message, signature):
    a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L or small_order(a) or small_order(r):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return same(multiply(s, BASE), add(r, multiply(h, a)))


# ---- bytes ----

def lp(data):
    return struct.pack(">I", len(data)) + data


def u32(n):
    return struct.pack(">I", n)


def u64(n):
    return struct.pack(">Q", n)


def domain(name):
    return lp(b"tercet/v1/" + name)


class Reader:
    def __init__(self, data, name):
        self.data, self.at = data, 0
        require(self.lp(64) == b"tercet/v1/" + name, "the bytes do not begin with the domain " + name.decode())

    def raw(self, n):
        require(self.at + n <= len(self.data), "the bytes end too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.raw(1)[0]

    def u32(self):
        return struct.unpack(">I", self.raw(4))[0]

    def u64(self):
        return struct.unpack(">Q", self.raw(8))[0]

    def lp(self, most):
        n = self.u32()
        require(n <= most, "a field of %d bytes, at most %d are allowed" % (n, most))
        return self.raw(n)

    def text(self, most):
        try:
            return self.lp(most).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("a text field is not UTF-8")

    def count(self, most):
        n = self.u32()
        require(n <= most, "a list of %d, at most %d are allowed" % (n, most))
        return range(n)

    def hash(self):
        return self.raw(32)

    def option(self):
        flag = self.u8()
        require(flag <= 1, "an option is 0 or 1")
        return flag == 1

    def finish(self):
        require(self.at == len(self.data), "bytes are left over")


def check_name(text, most):
    require(len(text) <= most and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text), "bad name %r" % text)
    return text


def check_key(source, event_id):
    for text in (source, event_id):
        control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
        require(len(text.encode()) <= 256 and not control, "bad event key")
    require(event_id != "", "bad event key")
    return source, event_id


# ---- Merkle, RFC 6962 ----

def leaf_hash(data):
    return sha256(b"\0" + data)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def tree_root(leaves):
    """The definition, over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_root(leaves[:k]), tree_root(leaves[k:]))


def root_from_inclusion(leaf, index, size, path):
    if index >= size:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def consistent(old, new, old_root, new_root, path):
    if old == new or old == 0:
        return not path and old_root == (new_root if old == new else sha256(b""))
    path = list(path)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if old > new or not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


# ---- genesis, epochs, trust bundle ----

class Trust:
    def __init__(self, bundle):
        require(bundle["version"] == 1, "unknown version of the trust bundle")
        genesis = bundle["genesis"]
        self.weights = {check_name(v["cloud"], 32): v["weight"] for v in genesis["voters"]}
        self.root_keys = {v["cloud"]: bytes.fromhex(v["root_key"]) for v in genesis["voters"]}
        self.quorum, total = genesis["quorum"], sum(self.weights.values())
        names = [v["cloud"] for v in genesis["voters"]]
        require(len(names) == 3 and names == sorted(set(names)), "not three clouds in order")
        require(len(set(self.root_keys.values())) == 3, "two clouds share a root key")
        require(total < 2 * self.quorum <= 2 * total, "the quorum is not a reachable majority")
        require(all(0 < w < self.quorum for w in self.weights.values()), "a weight is 0 or reaches the quorum")
        self.genesis = domain(b"genesis") + bytes.fromhex(genesis["nonce"]) + u32(self.quorum) + u32(3)
        for name in names:
            self.genesis += lp(name.encode()) + u32(self.weights[name]) + self.root_keys[name]
        self.fed = sha256(self.genesis)
        self.epochs = {}
        for opening in bundle["openings"]:
            epoch, keys = self.open(opening)
            self.epochs[(opening["cloud"], epoch)] = (opening["threshold"], keys)

    def opening_bytes(self, opening):
        out = domain(b"epoch") + self.fed + lp(opening["cloud"].encode()) + u32(opening["number"])
        out += u32(opening["threshold"]) + u32(len(opening["keys"]))
        for node, key in opening["keys"]:
            out += lp(check_name(node, 48).encode()) + bytes.fromhex(key)
        return out

    def open(self, opening):
        keys, threshold = opening["keys"], opening["threshold"]
        nodes = [node for node, _ in keys]
        require(opening["cloud"] in self.weights, "an epoch of an unknown cloud")
        require(1 <= len(keys) <= 9 and nodes == sorted(set(nodes)), "the nodes of an epoch are not sorted")
        require(len({key for _, key in keys}) == len(keys), "two nodes share a key")
        require(len(keys) < 2 * threshold <= 2 * len(keys), "the threshold is not a majority")
        data = self.opening_bytes(opening)
        signed = ed25519_verify(self.root_keys[opening["cloud"]], data, bytes.fromhex(opening["root_signature"]))
        require(signed, "the root key of %s did not sign its epoch" % opening["cloud"])
        return sha256(data)[:16], {node: bytes.fromhex(key) for node, key in keys}


# ---- notes ----

class Note:
    """A signed note in its one form."""

    SIZE = r"(0|[1-9][0-9]{0,19})"
    ROOT = r"([A-Za-z0-9+/]{43}=)"
    LOG = r"([0-9a-f]{64})/([a-z0-9-]+)/([0-9a-f]{32})"

    def __init__(self, text):
        require(len(text.encode()) <= 65536, "a note is too long")
        body, _, signatures = text.partition("\n\n")
        self.body = body + "\n"
        lines = body.split("\n")
        require(len(lines) >= 3, "a note without a checkpoint")
        origin = re.fullmatch(self.LOG, lines[0])
        require(origin, "a note without an origin")
        self.origin, self.fed = lines[0], bytes.fromhex(origin[1])
        self.cloud, self.epoch = check_name(origin[2], 32), bytes.fromhex(origin[3])
        self.size, self.root = self.number(lines[1]), self.hash(lines[2])
        self.audits, self.closings, word = {}, [], "audited"
        for line in lines[3:]:
            found = re.fullmatch("(audited|closed) %s %s %s" % (self.LOG, self.SIZE, self.ROOT), line)
            require(found, "%r is not an extension line" % line)
            log = (check_name(found[3], 32), bytes.fromhex(found[4]))
            require(bytes.fromhex(found[2]) == self.fed and log[0] != self.cloud, "a line names a wrong log")
            require(word == "audited" or found[1] == "closed", "an audit after a closing")
            word, head = found[1], (self.number(found[5]), self.hash(found[6]))
            if word == "audited":
                require(all(log > known for known in self.audits), "the audits are not sorted")
                self.audits[log] = head
            else:
                require(log not in [known for known, _ in self.closings], "a log is closed twice")
                self.closings.append((log, head))
        self.signatures = []
        require(signatures.endswith("\n"), "no signature lines")
        for line in signatures[:-1].split("\n"):
            found = re.fullmatch("\u2014 %s/([a-z0-9-]+) ([A-Za-z0-9+/=]+)" % re.escape(self.origin), line)
            require(found, "%r is not a signature line" % line)
            blob = self.base64(found[2])
            require(len(blob) == 68, "a signature has a wrong length")
            self.signatures.append((check_name(found[1], 48), blob[:4], blob[4:]))
        nodes = [node for node, _, _ in self.signatures]
        require(nodes == sorted(set(nodes)), "the signatures are not sorted")

    def number(self, text):
        require(re.fullmatch(self.SIZE, text) and int(text) < 2**64, "%r is not a size" % text)
        return int(text)

    def hash(self, text):
        require(re.fullmatch(self.ROOT, text), "%r is not a root" % text)
        return self.base64(text)

    def base64(self, text):
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            raise Refused("%r is not base64" % text)
        require(base64.b64encode(data).decode() == text, "%r is not canonical base64" % text)
        return data

    def verify(self, trust):
        require(self.fed == trust.fed and (self.cloud, self.epoch) in trust.epochs, "the epoch of a note is unknown")
        threshold, keys = trust.epochs[(self.cloud, self.epoch)]
        require(len(self.signatures) == threshold, "a note of %s has not %d signatures" % (self.cloud, threshold))
        for node, key_id, signature in self.signatures:
            require(node in keys, "%s is not a signer of this epoch" % node)
            wanted = sha256(("%s/%s\n" % (self.origin, node)).encode() + b"\1" + keys[node])[:4]
            valid = key_id == wanted and ed25519_verify(keys[node], self.body.encode(), signature)
            require(valid, "the signature of node %s does not verify" % node)

    def head_of(self, cloud, epoch):
        """What the note says of that log: its own checkpoint, or the one it audited."""
        if cloud == self.cloud:
            return (self.size, self.root) if epoch == self.epoch else None
        return self.audits.get((cloud, epoch))


# ---- leaves ----

def read_leaf(data):
    reader = Reader(data, b"leaf")
    kind, leaf = reader.u8(), {"bytes": data}
    require(kind <= 2, "no leaf has this type")
    if kind == 0:
        leaf.update(kind="open", opening=reader.hash(), config=reader.u32(), config_hash=reader.hash())
        leaf["predecessor"] = (reader.raw(16).hex(), reader.u64(), reader.hash()) if reader.option() else None
    elif kind == 2:
        leaf.update(kind="held", config=reader.u32(), tag=reader.hash())
    else:
        leaf.update(kind="vote", config=reader.u32(), tag=reader.hash(), verdict=reader.u8())
        leaf.update(content=reader.hash(), envelope=reader.hash())
        require(leaf["verdict"] in (1, 2), "no verdict has this number")
    reader.finish()
    return leaf


# ---- content and envelope ----

def content_bytes(content):
    source, event_id = content["key"]
    out = lp(content["tenant"].encode()) + lp(source.encode()) + lp(event_id.encode())
    out += u32(len(content["attributes"]))
    for name, value in content["attributes"]:
        out += lp(name.encode()) + lp(value.encode())
    out += lp(content["content_type"].encode())
    if content["supersedes"] is None:
        out += b"\0"
    else:
        out += b"\1" + lp(content["supersedes"][0].encode()) + lp(content["supersedes"][1].encode())
    return out + lp(content["payload"])


def check_content(content):
    names = [name for name, _ in content["attributes"]]
    require(names == sorted(set(names)), "the attributes are not sorted")
    require(all(re.fullmatch("[a-z0-9]{1,64}", name) for name in names), "bad name of an attribute")
    require(content["supersedes"] != content["key"], "an event supersedes itself")


def content_hash(content):
    return sha256(domain(b"content") + content_bytes(content))


def envelope_hash(envelope, plain):
    out = domain(b"envelope") + plain + lp(envelope["origin_cloud"].encode()) + u64(envelope["logical_clock"])
    return sha256(out + lp(envelope["region"].encode()) + u64(envelope["created_at"]))


def tag(fed, content, salt):
    source, event_id = content["key"]
    out = domain(b"tag") + fed + lp(content["tenant"].encode())
    return sha256(out + lp(source.encode()) + lp(event_id.encode()) + salt)


def salted(plain, salt):
    return sha256(domain(b"salted") + plain + salt)


# ---- certificates ----

def read_certificate(data):
    require(len(data) <= 1 << 20, "a certificate is too long")
    r = Reader(data, b"certificate")
    level = r.u8()
    require(level in (1, 2), "no level has this number")
    content = {"tenant": check_name(r.text(64), 64), "key": check_key(r.text(256), r.text(256))}
    content["attributes"] = [(r.text(64), r.text(1024)) for _ in r.count(32)]
    content["content_type"] = r.text(1024)
    content["supersedes"] = check_key(r.text(256), r.text(256)) if r.option() else None
    content["payload"] = r.lp(262144)
    envelope = {"origin_cloud": check_name(r.text(32), 32), "logical_clock": r.u64()}
    envelope["region"], envelope["created_at"] = r.text(1024), r.u64()
    salts = [r.hash() for _ in range(3)]
    notes = [Note(r.text(65536)) for _ in r.count(3)]
    votes = []
    for _ in r.count(3):
        vote = {"cloud": check_name(r.text(32), 32), "epoch": r.raw(16), "index": r.u64()}
        vote["leaf"] = read_leaf(r.lp(256))
        vote["proofs"] = [(r.u64(), [r.hash() for _ in r.count(64)]) for _ in r.count(3)]
        votes.append(vote)
    r.finish()
    return {1: "FINAL", 2: "SEALED"}[level], content, envelope, salts, notes, votes


def verify_certificate(data, trust):
    level, content, envelope, salts, notes, votes = read_certificate(data)
    check_content(content)
    for note in notes:
        note.verify(trust)
    noted, voted = [note.cloud for note in notes], [vote["cloud"] for vote in votes]
    for clouds in (noted, voted):
        require(clouds == sorted(set(clouds)) and set(clouds) <= set(trust.weights), "clouds are not sorted or unknown")

    plain = content_hash(content)
    full = envelope_hash(envelope, plain)
    for vote in votes:
        leaf, cloud = vote["leaf"], vote["cloud"]
        require(leaf["kind"] == "vote" and leaf["config"] == 0, "the leaf of %s is not a vote of the genesis" % cloud)
        require(leaf["tag"] == tag(trust.fed, content, salts[0]), "the vote of %s is for another event" % cloud)
        require(leaf["verdict"] == 1, "the vote of %s does not confirm" % cloud)
        require(leaf["content"] == salted(plain, salts[1]), "the vote of %s is for another content" % cloud)
    shown = salted(full, salts[2])
    require(any(vote["leaf"]["envelope"] == shown for vote in votes), "no vote is for this envelope")

    weight = sum(trust.weights[cloud] for cloud in voted)
    require(weight >= trust.quorum, "the votes do not reach the quorum")
    needed = all(weight - trust.weights[cloud] < trust.quorum for cloud in voted)
    require(needed, "a vote is not needed")

    require(set(voted) <= set(noted), "the note of a voter is missing")
    proven = "SEALED" if len(noted) == 3 else "FINAL"
    require(proven == "SEALED" or noted == voted, "a note is not needed")
    for vote in votes:
        heads, proofs = [note.head_of(vote["cloud"], vote["epoch"]) for note in notes], dict(vote["proofs"])
        require(None not in heads, "the vote of %s is not audited by every note" % vote["cloud"])
        require([size for size, _ in vote["proofs"]] == sorted({size for size, _ in heads}), "a proof is not needed or missing")
        for size, root in heads:
            found = root_from_inclusion(leaf_hash(vote["leaf"]["bytes"]), vote["index"], size, proofs[size])
            require(found == root, "the vote of %s is not in a checkpoint of %d leaves" % (vote["cloud"], size))
    require(level == proven, "it says %s and proves %s" % (level, proven))
    return {"level": level, "contentHash": plain.hex(), "hash": full.hex(), "voters": voted, "auditors": noted}


# ---- evidence ----

def read_statement(r):
    start = r.at
    note, index, leaf = Note(r.text(65536)), r.u64(), read_leaf(r.lp(256))
    path = [r.hash() for _ in r.count(64)]
    return {"note": note, "index": index, "leaf": leaf, "path": path, "bytes": r.data[start:r.at]}


def grew(note, before):
    """Whether an honest cloud that signed `before` may sign this note of the same log later."""
    more = lambda head, was: head[0] > was[0] or head == was
    audited = all(log in note.audits and more(note.audits[log], head) for log, head in before.audits.items())
    closed = note.closings[:len(before.closings)] == before.closings
    return audited and closed and more((note.size, note.root), (before.size, before.root))


def verify_evidence(data, trust):
    r = Reader(data, b"evidence")
    cloud, kind = check_name(r.text(32), 32), r.u8()
    require(kind in (1, 2, 3, 4, 5), "no evidence has this kind")
    if kind == 5:
        return dict(verify_double_lease_vote(r, cloud, trust), id=sha256(data).hex())
    if kind in (2, 4):
        texts = [r.text(65536), r.text(65536)]
        notes, order = [Note(text) for text in texts], [text.encode() for text in texts]
    else:
        parts = [read_statement(r), read_statement(r)]
        notes, order = [part["note"] for part in parts], [part["bytes"] for part in parts]
    r.finish()
    require(order[0] < order[1], "the parts are not in order")
    for note in notes:
        note.verify(trust)
        require(note.cloud == cloud, "a note is of another cloud")
    same_log = notes[0].origin == notes[1].origin
    if kind == 2:
        require(same_log and notes[0].size == notes[1].size and notes[0].root != notes[1].root, "no fork at a size")
        return {"kind": "fork-at-size", "cloud": cloud, "id": sha256(data).hex()}
    if kind == 4:
        require(same_log and not (notes[0].size == notes[1].size and notes[0].root != notes[1].root), "a fork at a size")
        require(not grew(notes[0], notes[1]) and not grew(notes[1], notes[0]), "one note grew from the other")
        return {"kind": "diverging-notes", "cloud": cloud, "id": sha256(data).hex()}
    for part in parts:
        root = root_from_inclusion(leaf_hash(part["leaf"]["bytes"]), part["index"], part["note"].size, part["path"])
        require(root == part["note"].root, "a leaf is not in the log that its note signs")
    leaves, same_place = [part["leaf"] for part in parts], same_log and parts[0]["index"] == parts[1]["index"]
    if kind == 3:
        require(same_place and leaves[0]["bytes"] != leaves[1]["bytes"], "no fork at an index")
        return {"kind": "fork-at-index", "cloud": cloud, "id": sha256(data).hex()}
    require(not same_place and all(leaf["kind"] == "vote" for leaf in leaves), "not two votes at two places")
    require(leaves[0]["tag"] == leaves[1]["tag"], "the votes are for different events")
    answers = [(leaf["verdict"], leaf["content"]) for leaf in leaves]
    require(answers[0] != answers[1], "the votes say the same")
    return {"kind": "double-vote", "cloud": cloud, "id": sha256(data).hex()}


# ---- the vectors ----

# ---- leases ----

def read_claim(r):
    claim = {
        "tenant": check_name(r.text(64), 64), "lease": check_name(r.text(64), 64), "fencingToken": r.u64(),
        "renewal": r.u64(), "holder": check_name(r.text(64), 64), "session": r.hash().hex(), "durationMs": r.u32(),
    }
    return claim


def read_scope(r):
    kind = r.u8()
    require(1 <= kind <= 3, "no scope has that number")
    return ["global", "strict"][kind - 1] if kind < 3 else "cloud:" + check_name(r.text(32), 32)


def read_voters(r, message, cloud, epoch, trust):
    require((cloud, epoch) in trust.epochs, "a vote of an unknown epoch")
    threshold, keys = trust.epochs[(cloud, epoch)]
    nodes = []
    for _ in r.count(9):
        node, signature = r.text(48), r.raw(64)
        require(not nodes or nodes[-1] < node, "the signatures are not sorted by node")
        require(node in keys and ed25519_verify(keys[node], message, signature), "a signature of a vote")
        nodes.append(node)
    require(len(nodes) == threshold, "exactly the threshold of nodes sign")


def read_lease_vote(r, trust):
    start = r.at
    cloud, epoch, begun = r.text(32), r.raw(16), r.at
    claim = read_claim(r)
    claim["scope"] = read_scope(r)
    stated = r.data[begun:r.at]
    message = domain(b"lease-vote") + trust.fed + lp(cloud.encode()) + epoch + stated + u64(r.u64())
    read_voters(r, message, cloud, epoch, trust)
    return cloud, claim, r.data[start:r.at]


def verify_double_lease_vote(r, cloud, trust):
    (first, claim, one), (second, other, two) = read_lease_vote(r, trust), read_lease_vote(r, trust)
    r.finish()
    require(one < two, "the parts are not in order")
    require(first == second == cloud, "a vote is of another cloud")
    key = lambda claim: [claim[part] for part in ("tenant", "lease", "fencingToken", "renewal")]
    require(key(claim) == key(other), "the votes have different keys")
    require(claim != other, "the votes say the same")
    return {"kind": "double-lease-vote", "cloud": cloud}


def verify_grant(data, trust):
    r = Reader(data, b"lease-grant")
    begun = r.at
    claim = read_claim(r)
    scope = read_scope(r)
    stated = data[begun:r.at]
    clouds, first = [], None
    for _ in r.count(3):
        cloud, epoch, voted_at = r.text(32), r.raw(16), r.u64()
        require(not clouds or clouds[-1] < cloud, "the votes are not sorted by cloud")
        message = domain(b"lease-vote") + trust.fed + lp(cloud.encode()) + epoch + stated + u64(voted_at)
        read_voters(r, message, cloud, epoch, trust)
        clouds.append(cloud)
        first = voted_at if first is None else min(first, voted_at)
    r.finish()
    weight = sum(trust.weights[cloud] for cloud in clouds)
    enough = {"global": weight >= trust.quorum, "strict": set(clouds) == set(trust.weights)}
    require(enough.get(scope, scope[6:] in clouds), "the votes are too few")
    claim.update(scope=scope, clouds=clouds, acquiredAt=first, expiresAt=first + claim["durationMs"])
    return claim


def vector_content(case):
    key = lambda k: (k["source"], k["id"])
    content = dict(case["content"], key=key(case["content"]["key"]), payload=bytes.fromhex(case["content"]["payload"]))
    content["attributes"] = [tuple(pair) for pair in content["attributes"]]
    content["supersedes"] = content["supersedes"] and key(content["supersedes"])
    return content


def check_contents(vectors):
    fed, secret = bytes.fromhex(vectors["fedId"]), bytes.fromhex(vectors["tenantSecret"])
    salt = lambda *fields: hmac.new(secret, b"".join(fields), hashlib.sha256).digest()
    for case in vectors["cases"]:
        content = vector_content(case)
        check_content(content)
        plain = content_hash(content)
        full = envelope_hash(case["envelope"], plain)
        source, event_id = content["key"]
        key_salt = salt(lp(b"k"), lp(source.encode()), lp(event_id.encode()))
        content_salt, envelope_salt = salt(lp(b"c"), plain), salt(lp(b"e"), full)
        found = {
            "contentHash": plain, "hash": full, "keySalt": key_salt, "tag": tag(fed, content, key_salt),
            "contentSalt": content_salt, "saltedContent": salted(plain, content_salt),
            "envelopeSalt": envelope_salt, "saltedEnvelope": salted(full, envelope_salt),
        }
        for name, value in found.items():
            require(value.hex() == case[name], "%s of event %r" % (name, event_id))
    return len(vectors["cases"])


def check_signatures(vectors):
    fed, batch = bytes.fromhex(vectors["fedId"]), vectors["batch"]

    def check(signed, message, expected):
        require(message.hex() == expected, "message of a tenant signature")
        valid = ed25519_verify(bytes.fromhex(signed["key"]), message, bytes.fromhex(signed["signature"]))
        require(valid, "a tenant signature does not verify")

    single = vectors["single"]
    message = domain(b"submit") + fed + bytes.fromhex(single["contentHash"])
    check(single["tenantSignature"]["single"], message, single["message"])
    for item in batch["items"]:
        signed = item["tenantSignature"]["batch"]
        leaf, path = leaf_hash(bytes.fromhex(item["contentHash"])), [bytes.fromhex(h) for h in signed["path"]]
        root = root_from_inclusion(leaf, signed["index"], signed["size"], path)
        require(root is not None and root.hex() == batch["root"], "the path of a batch item")
        check(signed, domain(b"submit-batch") + fed + u64(signed["size"]) + root, batch["message"])
    return 1 + len(batch["items"])


def check_epochs(vectors, trust):
    require(trust.genesis.hex() == vectors["genesis"] and trust.fed.hex() == vectors["fedId"], "genesis")
    for case in vectors["epochs"]:
        data = trust.opening_bytes(case["opening"])
        epoch, _ = trust.open(case["opening"])
        origin = "%s/%s/%s" % (trust.fed.hex(), case["opening"]["cloud"], epoch.hex())
        require((data.hex(), epoch.hex(), origin) == (case["bytes"], case["epoch"], case["origin"]), "an epoch")
        require(len(case["opening"]["keys"]) == len(case["vkeys"]), "a vkey for each node")
        for (node, key), vkey in zip(case["opening"]["keys"], case["vkeys"]):
            name, typed = "%s/%s" % (origin, node), b"\1" + bytes.fromhex(key)
            key_id = sha256(name.encode() + b"\n" + typed)[:4].hex()
            require(vkey == "%s+%s+%s" % (name, key_id, base64.b64encode(typed).decode()), "the vkey of " + node)
    return len(vectors["epochs"])


def check_leaves(vectors):
    for case in vectors["leaves"]:
        leaf = read_leaf(bytes.fromhex(case["bytes"]))
        require(leaf_hash(leaf["bytes"]).hex() == case["leafHash"], "the hash of a leaf")
        (kind, fields), = case["leaf"].items()
        require(leaf["kind"] == kind.lower() and leaf["config"] == fields["config"], "the fields of a leaf")
        if kind == "Vote":
            require(leaf["verdict"] == {"confirm": 1, "reject-operator": 2}[fields["verdict"]], "a verdict")
        for name in {"Vote": ("tag", "content", "envelope"), "Open": ("opening", "config_hash"), "Held": ("tag",)}[kind]:
            require(leaf[name].hex() == fields[name], "%s of a leaf" % name)
    return len(vectors["leaves"])


def check_merkle(vectors):
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in vectors["leaves"]]
    roots, size = [bytes.fromhex(root) for root in vectors["roots"]], vectors["size"]
    require(roots == [tree_root(leaves[:n]) for n in range(size + 1)], "roots")
    hashes = lambda case: [bytes.fromhex(h) for h in case["path"]]
    for case in vectors["inclusion"]:
        found = root_from_inclusion(leaves[case["index"]], case["index"], size, hashes(case))
        require(found == roots[size], "inclusion of leaf %d" % case["index"])
    for case in vectors["consistency"]:
        holds = consistent(case["old"], size, roots[case["old"]], roots[size], hashes(case))
        require(holds, "consistency from %d" % case["old"])
    return len(vectors["inclusion"]) + len(vectors["consistency"])


def check_notes(vectors, trust):
    for case in vectors["notes"]:
        note = Note(case["text"])
        note.verify(trust)
        require((note.size, note.root.hex()) == (case["size"], case["root"]), "the checkpoint of a note")
    return len(vectors["notes"])


def refuses_changes(data, verify, step):
    """A sample of single changed bytes; the Rust tests try all of them."""
    for at in range(0, len(data), step):
        changed = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:]
        try:
            verify(changed)
        except Refused:
            continue
        raise Refused("byte %d may change" % at)


def check_objects(cases, verify, trust):
    for case in cases:
        data = bytes.fromhex(case["bytes"])
        for name, value in verify(data, trust).items():
            require(value == case[name], "%s differs: %r" % (name, value))
        refuses_changes(data, lambda changed: verify(changed, trust), 47)
    return len(cases)


def check_signed(vectors, trust):
    for case in vectors["claims"] + vectors["releases"]:
        signature = bytes.fromhex(case["signature"])
        require(ed25519_verify(bytes.fromhex(case["session"]), bytes.fromhex(case["bytes"]), signature), "a session signs")
    for case in vectors["claims"]:
        r = Reader(bytes.fromhex(case["bytes"]), b"lease-claim")
        require(r.hash() == trust.fed and read_claim(r)["fencingToken"] == case["token"], "a claim")
        r.finish()
    for case in vectors["reports"]:
        mac = hmac.new(bytes.fromhex(case["secret"]), bytes.fromhex(case["bytes"]), hashlib.sha256).hexdigest()
        require(mac == case["mac"], "the MAC of a report")
    return len(vectors["claims"] + vectors["releases"] + vectors["reports"])


def check_vectors():
    folder = pathlib.Path(__file__).resolve().parent
    load = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
    trust = Trust(load("trust.json"))
    checks = [
        ("epochs", check_epochs(load("epochs.json"), trust)),
        ("contents", check_contents(load("contents.json"))),
        ("tenant signatures", check_signatures(load("tenant-signatures.json"))),
        ("leaves", check_leaves(load("leaves.json"))),
        ("Merkle proofs", check_merkle(load("merkle.json"))),
        ("notes", check_notes(load("notes.json"), trust)),
        ("certificates", check_objects(load("certificates.json")["certificates"], verify_certificate, trust)),
        ("evidence", check_objects(load("evidence.json")["evidence"], verify_evidence, trust)),
        ("grants of leases", check_objects(load("leases.json")["grants"], verify_grant, trust)),
        ("claims, releases, reports", check_signed(load("leases.json"), trust)),
    ]
    for name, count in checks:
        print("ok  %3d %s" % (count, name))


def main(arguments):
    verifiers = {"certificate": verify_certificate, "evidence": verify_evidence, "grant": verify_grant}
    try:
        if not arguments:
            check_vectors()
        elif len(arguments) == 3 and arguments[0] in verifiers:
            kind, path, bundle = arguments
            trust = Trust(json.loads(pathlib.Path(bundle).read_text(encoding="utf-8")))
            print(json.dumps(verifiers[kind](pathlib.Path(path).read_bytes(), trust), indent=2))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except Refused as refused:
        print("refused: %s" % refused, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
